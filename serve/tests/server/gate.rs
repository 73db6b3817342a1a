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
    for (method, path, allow, says) in [
        ("GET", "/v1/chat/completions", "POST", "send a POST"),
        ("POST", "/v1/models", "GET,HEAD", "send a GET"),
        ("DELETE", "/v1/models", "GET,HEAD", "Allow"),
        ("PUT", "/tokenize", "POST", "Allow"),
        ("GET", "/v1/messages", "POST", "send a POST"),
    ] {
        let answer = server.request(method, path, &[], b"");
        assert_eq!(answer.status, 405, "{method} {path}");
        assert_eq!(answer.header("allow"), Some(allow));
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let json = answer.json();
        let message = json["error"]["message"].as_str().expect("a message");
        assert!(message.contains(&format!("{method} {path}")) && message.contains(says));
        assert_eq!(json["type"] == "error", path == "/v1/messages", "{json}");
    }
    let mut client = server.connect();
    client.send("HEAD", "/v1/completions", &[], b"");
    let head = client.head();
    assert_eq!((head.status, head.header("allow")), (405, Some("POST")));
    assert_eq!(head.header("content-type"), Some("application/json"));
    // Targets without a path.
    for (method, target) in [("GET", "*"), ("CONNECT", "other.example:80")] {
        let answer = server.request(method, target, &[], b"");
        assert_eq!(answer.status, 404, "{method} {target}");
        assert!(answer.json()["error"]["message"].is_string());
    }
    assert_eq!(server.get("/health?x=y").status, 200);
    let mut client = server.connect();
    client.send("HEAD", "/v1/models", &[], b"");
    let head = client.head();
    assert_eq!((head.status, head.header("content-type")), (200, Some("application/json")));
}

#[test]
fn paths_of_other_servers_say_what_there_is() {
    let server = start(options());
    for (method, path, says) in [
        ("POST", "/completion", "/v1/completions"),
        ("POST", "/infill", "/v1/completions"),
        ("GET", "/slots", "/metrics"),
        ("POST", "/slots/0?action=save", "/metrics"),
        ("POST", "/embedding", "not supported yet"),
        ("POST", "/rerank", "not supported yet"),
        ("GET", "/lora-adapters", "adapters"),
        ("POST", "/api/generate", "/v1/completions"),
        ("POST", "/api/chat", "/v1/chat/completions"),
        ("GET", "/api/tags", "/v1/models"),
        ("GET", "/v1/responses/resp_1", "this server has /v1/chat/completions"),
        ("POST", "/v1/v1/models", "base URL"),
        ("GET", "/completions/x", "base URL"),
        ("GET", "/slotsy", "base URL"),
    ] {
        let answer = server.request(method, path, &[], b"{}");
        assert_eq!(answer.status, 404, "{path}");
        let error = answer.json()["error"].clone();
        assert_eq!((&error["type"], &error["code"]), (&json!("not_found_error"), &json!(404)));
        let message = error["message"].as_str().expect("a message");
        let path = path.split('?').next().unwrap_or_default();
        assert!(message.contains(&format!("`{method} {path}`")), "{message}");
        assert!(message.contains(says), "{message}");
    }
    let batches = server.post("/v1/messages/batches", &json!({})).json();
    assert_eq!(
        (&batches["type"], &batches["error"]["type"]),
        (&json!("error"), &json!("not_found_error"))
    );
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
