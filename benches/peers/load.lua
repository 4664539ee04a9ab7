-- The requests wrk sends, and its result as one line of JSON.
-- Called by rounds.py as: wrk ... -s load.lua URL -- PREFIX COUNT UPLOAD HEADERS keep|close
-- It asks for COUNT distinct paths in turn, all prepared before the clock starts: with GET, or with POST and
-- a body of UPLOAD bytes; with so many HEADERS beyond wrk's own.

local requests = {}
local at = 0

function init(args)
    local prefix, count, upload = args[1], tonumber(args[2]), tonumber(args[3])
    local headers = {}
    for n = 1, tonumber(args[4]) do
        headers["X-Question-" .. n] = "value-of-header-" .. n
    end
    if args[5] == "close" then
        headers["Connection"] = "close"
    end
    local method, body = "GET", nil
    if upload > 0 then
        method, body = "POST", string.rep("x", upload)
    end
    for n = 1, count do
        requests[n] = wrk.format(method, prefix .. n, headers, body)
    end
end

function request()
    at = at % #requests + 1
    return requests[at]
end

function done(summary, latency)
    local e = summary.errors
    io.write(string.format(
        '{"requests":%d,"bytes":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"p999_us":%d,'
            .. '"errors":{"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d}}\n',
        summary.requests, summary.bytes, summary.duration,
        latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
        e.connect, e.read, e.write, e.timeout, e.status))
end
