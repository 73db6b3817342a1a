//! Routes that say how the server is and what it serves.

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use crate::answer::json_response;
use crate::app::{App, Shared};
use crate::error::{ApiError, ApiResult};
use crate::json::decimal;
use crate::metrics;
use crate::page;

/// The routes.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/", get(page::page))
        .route("/health", get(health))
        .route("/v1/health", get(health))
        .route("/v1/models", get(models))
        .route("/models", get(models))
        .route("/v1/models/{*id}", get(model))
        .route("/props", get(props))
        .route("/metrics", get(metrics))
        .route("/v1/embeddings", post(embeddings))
        .route("/embeddings", post(embeddings))
}

async fn health(State(app): State<Shared>) -> ApiResult<Response> {
    if !app.is_running() {
        return Err(ApiError::ending());
    }
    app.check_engine()?;
    Ok(json_response(&json!({ "status": "ok" })))
}

/// The model as the list of models has it.
fn model_json(app: &App) -> Value {
    let spec = app.model.spec();
    json!({
        "id": app.options.model_id,
        "object": "model",
        "created": app.created,
        "owned_by": "teff",
        "meta": {
            "architecture": spec.arch,
            "n_vocab": spec.vocab,
            "n_ctx": app.engine.context(),
            "n_ctx_train": spec.context,
            "n_embd": spec.width,
            "n_params": spec.parameters(),
            "size": app.model.weight_bytes(),
        },
    })
}

async fn models(State(app): State<Shared>) -> Response {
    json_response(&json!({ "object": "list", "data": [model_json(&app)] }))
}

async fn model(
    State(app): State<Shared>,
    id: Result<Path<String>, PathRejection>,
) -> ApiResult<Response> {
    let Path(id) = id.map_err(|e| ApiError::invalid(e.body_text()))?;
    if id == app.options.model_id {
        return Ok(json_response(&model_json(&app)));
    }
    Err(app.options.no_model(&id))
}

async fn props(State(app): State<Shared>) -> Response {
    let (options, engine, stats) = (&app.options, &app.engine, app.engine.stats());
    let s = options.sampling;
    let token = |id: Option<u32>| {
        let tokenizer = app.model.tokenizer().ok()?;
        let bytes = tokenizer.token_bytes(id?)?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    };
    let ids = app.model.tokenizer().map(|t| t.special_ids()).unwrap_or_default();
    let max_tokens = options.max_tokens.map_or(json!(-1), |n| json!(n));
    json_response(&json!({
        "default_generation_settings": {
            "n_ctx": engine.context(),
            "params": {
                "temperature": decimal(s.temperature),
                "top_k": s.top_k,
                "top_p": decimal(s.top_p),
                "min_p": decimal(s.min_p),
                "repeat_penalty": decimal(s.repeat_penalty),
                "repeat_last_n": s.repeat_last_n,
                "presence_penalty": decimal(s.presence_penalty),
                "frequency_penalty": decimal(s.frequency_penalty),
                "max_tokens": max_tokens,
                "seed": -1,
            },
        },
        "total_slots": engine.options().sequences,
        "model_alias": options.model_id,
        "model_name": app.model.name(),
        "modalities": { "vision": false, "audio": false },
        "chat_template": app.templates.plain,
        "chat_template_source": app.templates.origin.name(),
        "chat_template_tool_use": app.templates.tools,
        "bos_token": token(ids.bos),
        "eos_token": token(ids.eos),
        "build_info": concat!("teff ", env!("CARGO_PKG_VERSION")),
        "limits": {
            "body_bytes": options.body_limit,
            "choices": options.max_choices,
            "connections": options.connections,
            "requests": options.requests,
        },
        "stats": {
            "waiting": stats.waiting,
            "running": stats.running,
            "batch_sequences": stats.batch_sequences,
            "batch_tokens": stats.batch_tokens,
            "pages": stats.pages,
            "pages_running": stats.pages_running,
            "pages_cached": stats.pages_cached,
            "pages_free": stats.pages_free,
        },
    }))
}

async fn metrics(State(app): State<Shared>) -> ApiResult<Response> {
    let text = app.metrics.text().map_err(|e| ApiError::internal(e.to_string()))?;
    let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

async fn embeddings() -> ApiError {
    ApiError::invalid("embeddings are not supported by this server yet").with_code("not_supported")
}
