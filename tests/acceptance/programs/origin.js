// A backend in Node: answers its name. Usage: node origin.js NAME PORT

const [name, port] = process.argv.slice(2);
const server = require("node:http").createServer((request, response) => {
  request.resume();
  response.writeHead(200, { "content-type": "text/plain", "content-length": Buffer.byteLength(name) });
  response.end(name);
});
server.listen(Number(port), "127.0.0.1");
