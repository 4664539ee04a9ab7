//! What would move if a configuration took the place of the one in force: `POST /api/plan`.
//!
//! Owns the bounds on asking: bytes, time, and how many are worked out at once. Changes nothing, so it needs what reading needs. What moves, the
//! analysis says, on a thread that answers nobody else.

use std::sync::Arc;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{Request, StatusCode, body::Incoming};

use super::{
    House, OperatorError,
    routes::{Answer, error, full, json},
};
use crate::limits::{PLAN_BODY, PLAN_BODY_BYTES};

/// Answers with what would move.
pub(super) async fn plan(house: &House, request: Request<Incoming>) -> Answer {
    // Before the body, which is what memory is needed for.
    let Ok(place) = house.plans.clone().try_acquire_owned() else {
        return full("other plans are being worked out: ask again");
    };
    let body = Limited::new(request.into_body(), PLAN_BODY_BYTES).collect();
    let body = match tokio::time::timeout(PLAN_BODY, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(problem)) if problem.is::<LengthLimitError>() => {
            let problem = format!("a configuration of more than {PLAN_BODY_BYTES} bytes is not taken here");
            return error(StatusCode::PAYLOAD_TOO_LARGE, &problem);
        }
        Ok(Err(problem)) => return error(StatusCode::BAD_REQUEST, &problem.to_string()),
        Err(_) => return error(StatusCode::REQUEST_TIMEOUT, "the configuration came too slowly"),
    };
    let Ok(text) = String::from_utf8(body.into()) else {
        return error(StatusCode::BAD_REQUEST, "the configuration is not UTF-8");
    };
    let operator = Arc::clone(&house.state.operator);
    // A task of its own keeps the place until the work is done, also if nobody waits for it any more.
    let planned = tokio::spawn(async move {
        let _place = place;
        operator.plan(text).await
    });
    match planned.await {
        Ok(Ok(comparison)) => json(StatusCode::OK, &comparison),
        Ok(Err(OperatorError::Refused(why))) => error(StatusCode::BAD_REQUEST, &why),
        Ok(Err(OperatorError::NotNow(why))) => error(StatusCode::CONFLICT, &why),
        Ok(Err(OperatorError::Failed(why))) => error(StatusCode::INTERNAL_SERVER_ERROR, &why),
        Err(broken) => error(StatusCode::INTERNAL_SERVER_ERROR, &broken.to_string()),
    }
}
