//! Keys, origins, and paths that are not there.

use serde_json::json;

use crate::common::{options, start};

#[test]
fn requests_need_a_key_if_there_is_one() {
    let server = start(options().with_api_key("first").with_api_key("second"));
    for path in ["/", "/health", "/v1/health"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    for path in ["/v1/models", "/metrics", "/props", "/nothing"] {
        let answer = server.get(path);
        assert_eq!(answer.status, 401, "{path}");
        let error = &answer.json()["error"];
        assert!(error["message"].as_str().is_some_and(|m| m.contains("Bearer KEY")), "{error}");
        assert_eq!((&error["type"], &error["code"]), (&json!("authentication_error"), &json!(401)));
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    for (header, status) in [
        (("Authorization", "Bearer first"), 200),
        (("authorization", "bearer second"), 200),
        (("X-API-KEY", "second"), 200),
        (("Authorization", "Bearer third"), 401),
        (("Authorization", "Bearer "), 401),
        (("Authorization", "first"), 401),
        (("x-api-key", "firs"), 401),
    ] {
        let answer = server.request("GET", "/v1/models", &[header], b"");
        assert_eq!(answer.status, status, "{header:?}");
    }
    let wrong = server.request("GET", "/v1/models", &[("x-api-key", "third")], b"").json();
    assert_eq!(wrong["error"]["message"], "Invalid API Key");
    let body = json!({ "prompt": "x", "max_tokens": 1 }).to_string();
    let post = |headers: &[(&str, &str)]| {
        server.request("POST", "/v1/completions", headers, body.as_bytes()).status
    };
    assert_eq!((post(&[]), post(&[("x-api-key", "first")])), (401, 200));
}

#[test]
fn paths_and_methods_that_are_not_there() {
    let server = start(options());
    for path in
        ["/nothing", "/v1", "/v1/chat/completions/", "/v1/engines", "/%ff", "/v1/models/%ff"]
    {
        let answer = server.get(path);
        assert!([400, 404].contains(&answer.status), "{path} {}", answer.status);
        assert!(answer.json()["error"]["message"].is_string());
    }
    for (method, path) in
        [("GET", "/v1/chat/completions"), ("DELETE", "/v1/models"), ("PUT", "/tokenize")]
    {
        let answer = server.request(method, path, &[], b"");
        assert_eq!(answer.status, 405, "{method} {path}");
        assert!(answer.header("allow").is_some());
        assert!(answer.json()["error"]["message"].is_string());
    }
    assert_eq!(server.get("/health?x=y").status, 200);
    let mut client = server.connect();
    client.send("HEAD", "/v1/models", &[], b"");
    let head = client.head();
    assert_eq!((head.status, head.header("content-type")), (200, Some("application/json")));
}

#[test]
fn pages_of_others_may_not_use_the_server() {
    let server = start(options());
    let body = json!({ "prompt": "x", "max_tokens": 1 }).to_string();
    let origin = |origin: &'static str| {
        server.request("POST", "/v1/completions", &[("origin", origin)], body.as_bytes())
    };
    let other = origin("https://example.com");
    assert_eq!((other.status, other.header("access-control-allow-origin")), (403, None));
    assert_eq!(origin("null").status, 403);
    // The page of the server itself, whose name is here that of the test's requests.
    assert_eq!(origin("http://test").status, 200);
    let asked = server.request("OPTIONS", "/v1/completions", &[("origin", "https://a.b")], b"");
    assert_eq!((asked.status, asked.header("access-control-allow-origin")), (204, None));
}

#[test]
fn pages_of_named_origins_may() {
    let mut named = options().with_api_key("k");
    named.cors_origins = vec!["https://example.com".into()];
    let server = start(named);
    let headers = [
        ("origin", "https://example.com"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type"),
    ];
    let asked = server.request("OPTIONS", "/v1/completions", &headers, b"");
    assert_eq!(asked.status, 204);
    assert_eq!(asked.header("access-control-allow-origin"), Some("https://example.com"));
    assert_eq!(asked.header("access-control-allow-headers"), Some("authorization,content-type"));
    assert!(asked.header("access-control-allow-methods").is_some_and(|m| m.contains("POST")));
    let body = json!({ "prompt": "x", "max_tokens": 1 }).to_string();
    let headers = [("origin", "https://example.com"), ("authorization", "Bearer k")];
    let answer = server.request("POST", "/v1/completions", &headers, body.as_bytes());
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://example.com"));
    assert_eq!(answer.header("vary"), Some("origin"));
    // Errors can be read as well.
    let headers = [("origin", "https://example.com")];
    let answer = server.request("POST", "/v1/completions", &headers, body.as_bytes());
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://example.com"));
}
