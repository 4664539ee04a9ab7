//! What routes change: the path's beginning and header fields, and nothing else.

use super::support::{Client, Origin, Proxy, get, proxy::configuration};

async fn before(origin: &Origin, route: &str) -> Proxy {
    Proxy::start(&configuration(&[origin], "", &format!("[[routes]]\npool = \"p\"\n{route}"))).await
}

#[tokio::test]
async fn the_paths_beginning_is_replaced_for_the_backend_alone() {
    let origin = Origin::named("one").await;
    let proxy = before(&origin, "path_prefix = \"/api\"\nreplace_prefix = \"/v2\"\n").await;
    for (asked, wanted) in [
        ("/api", "GET /v2 HTTP/1.1"),
        ("/api/", "GET /v2/ HTTP/1.1"),
        ("/api/a%2Fb?x=/api", "GET /v2/a%2Fb?x=/api HTTP/1.1"),
        ("/api?", "GET /v2? HTTP/1.1"),
        ("http://other.example/api/x", "GET /v2/x HTTP/1.1"),
    ] {
        assert_eq!(get(proxy.address, asked, "").await.status, 200, "{asked}");
        assert_eq!(origin.seen().last().unwrap().line(), wanted, "{asked}");
    }
    let seen = origin.seen().len();
    for refused in [
        "/api/../admin",
        "/api/%2e%2e/admin",
        "/api/x%2f..%2f..",
        "/api/.",
        "/api/..;/admin",
        "/api/%252e%252e/admin",
    ] {
        let mut client = Client::connect(proxy.address).await;
        assert_eq!(client.get(refused, "").await.status, 400, "{refused}");
        // It is a request like any other but for that.
        assert_eq!(client.get("/api", "").await.status, 200);
    }
    assert_eq!(origin.seen().len(), seen + 6);
    proxy.counts("ringway_refusals_total", &["reason=\"dot_segments\""], 6.0).await;
    assert_eq!(get(proxy.address, "/apis", "").await.status, 404);
    // The key is that of the path as it came.
    let lookup = proxy.api("/api/lookup?uri=/api/x").await;
    assert_eq!(lookup["key"], "/api/x");
}

#[tokio::test]
async fn what_is_left_of_a_path_does_not_begin_with_two_slashes() {
    let origin = Origin::named("one").await;
    let proxy = before(&origin, "path_prefix = \"/api\"\nreplace_prefix = \"/\"\n").await;
    assert_eq!(get(proxy.address, "/api//other.example/x", "").await.status, 400);
    assert!(origin.seen().is_empty());
    assert_eq!(get(proxy.address, "/api/x//y", "").await.status, 200);
    assert_eq!(origin.only().line(), "GET /x//y HTTP/1.1");
}

#[tokio::test]
async fn without_a_replacement_paths_pass_as_they_are() {
    let origin = Origin::named("one").await;
    let proxy = before(&origin, "path_prefix = \"/api\"\n").await;
    for path in ["/api/../x", "/api/%2e%2e", "/api//"] {
        assert_eq!(get(proxy.address, path, "").await.status, 200);
        assert_eq!(origin.seen().last().unwrap().line(), format!("GET {path} HTTP/1.1"));
    }
    let proxy = before(&origin, "replace_prefix = \"/sub\"\n").await;
    assert_eq!(get(proxy.address, "/x", "").await.status, 200);
    assert_eq!(origin.seen().last().unwrap().line(), "GET /sub/x HTTP/1.1");
    Client::connect(proxy.address).await.send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").await.answer().await;
    assert_eq!(origin.seen().last().unwrap().line(), "OPTIONS * HTTP/1.1");
}

#[tokio::test]
async fn header_fields_are_set_added_and_removed() {
    let reply = "HTTP/1.1 200 OK\r\nx-backend: one\r\nServer: secret\r\nX-Kept: 1\r\nset-cookie: a\r\n\
        X-Powered-By: x\r\ncontent-length: 3\r\n\r\none";
    let origin = Origin::answering("one", reply.as_bytes()).await;
    let changes = "[routes.request_headers]\nset = { X-Tenant = \"red\" }\nadd = { x-hop = \"2\" }\nremove = [\"Cookie2\"]\n\
        [routes.response_headers]\nset = { server = \"edge\" }\nadd = { set-cookie = \"b\" }\nremove = [\"x-powered-by\"]\n";
    let proxy = before(&origin, changes).await;
    let mut client = Client::connect(proxy.address).await;
    for fields in ["x-TENANT: blue\r\nX-Tenant: green\r\nX-Hop: 1\r\ncookie2: z\r\nX-Own: y\r\n", ""] {
        let answer = client.get("/", fields).await;
        assert_eq!(answer.text(), "one");
        let lines =
            |name: &str| answer.head.lines().filter(|line| line.to_lowercase().starts_with(name)).count();
        assert_eq!((answer.header("server"), lines("server:"), lines("set-cookie:")), (Some("edge"), 1, 2));
        assert_eq!((answer.header("x-kept"), answer.header("x-powered-by")), (Some("1"), None));
        let seen = origin.seen().pop().unwrap();
        let count =
            |name: &str| seen.head.lines().filter(|line| line.to_lowercase().starts_with(name)).count();
        assert_eq!((seen.header("x-tenant"), count("x-tenant:")), (Some("red"), 1));
        assert_eq!(count("x-hop:"), if fields.is_empty() { 1 } else { 2 });
        assert_eq!(seen.header("cookie2"), None);
        assert_eq!(seen.header("x-own"), (!fields.is_empty()).then_some("y"));
    }
    // Chunked answers and those that come in pieces go the long way.
    let reply = "HTTP/1.1 200 OK\r\nserver: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n";
    let origin = Origin::answering("two", reply.as_bytes()).await;
    let proxy = before(&origin, changes).await;
    assert_eq!(get(proxy.address, "/", "").await.header("server"), Some("edge"));
}
