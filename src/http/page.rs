//! The page, for whoever asks: what it shows it asks for with a credential.

use std::fmt::Write as _;

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, EntityTag, Header as _, IfNoneMatch,
};
use actix_web::{HttpRequest, HttpResponse};

use super::ops;
use crate::web::{self, File};

/// Nothing but the service's own files, and no script or style within the page.
pub(crate) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Where the page's files are.
const ASSETS: &str = "/assets/";

/// Whether a path is the page's, or would be one of its files.
pub(crate) fn is_at(path: &str) -> bool {
    path == "/" || path.starts_with(ASSETS)
}

/// The page itself.
pub(crate) async fn index(request: HttpRequest) -> HttpResponse {
    show(&request, "index.html").await
}

/// One of its files. The path is taken as it is: no name of a file needs an escape.
pub(crate) async fn asset(request: HttpRequest) -> HttpResponse {
    let path = request.path();
    show(&request, path.strip_prefix(ASSETS).unwrap_or_default()).await
}

async fn show(request: &HttpRequest, name: &str) -> HttpResponse {
    let Some(file) = web::file(name) else {
        return ops::no_such_route().await;
    };
    let tag = tag(&file);
    let is_known = is_known(request, &tag);
    let mut response = if is_known {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    response
        .insert_header((ETAG, tag.to_string()))
        // It may be kept, and is asked after each time: another build has other files of the same names.
        .insert_header((CACHE_CONTROL, "no-cache"));
    if is_known {
        return response.finish();
    }
    response
        .insert_header((CONTENT_TYPE, file.content_type))
        .body(file.bytes)
}

fn tag(file: &File) -> EntityTag {
    let mut text = String::new();
    for byte in file.hash.iter().take(16) {
        // A string takes whatever is written.
        let _written = write!(text, "{byte:02x}");
    }
    EntityTag::new_strong(text)
}

fn is_known(request: &HttpRequest, tag: &EntityTag) -> bool {
    match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(known)) => known.iter().any(|known| known.weak_eq(tag)),
        Err(_not_understood) => false,
    }
}
