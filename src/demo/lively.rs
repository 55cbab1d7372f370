//! Three organisations at work, for as long as somebody looks on.

mod cast;
mod endpoint;
mod errands;
mod player;
mod work;

use std::io::Write as _;
use std::net::TcpListener;

use crate::app::App;
use crate::config::Config;
use crate::limits;

use super::api::Api;
use player::Company;

/// Makes everything happen sooner than in earnest, so that there is something to see.
pub(super) fn suit(config: &mut Config) {
    config.delegation_stuck_threshold_s = 3;
    config.retry_base_ms = 500;
    // What happens is to be seen on the page: here it would only push the link away.
    if config.log == "info" {
        "warn".clone_into(&mut config.log);
    }
    // Its usual port if that is free.
    if TcpListener::bind((config.host, config.port)).is_err() {
        config.port = 0;
    }
}

/// Shows it until told to stop.
pub(super) async fn show(app: App) -> anyhow::Result<()> {
    let api = Api::new(app.address(), app.admin_token().reveal())?;
    let (banner, link) = (app.banner(), app.sign_in_link());
    let server = actix_web::rt::spawn(app.run_until(limits::stop_signal()?));
    let company = Company::gather(&api).await?;
    company.begin();
    // Whoever started it may not read on; that is no reason not to play.
    let _shown = writeln!(
        std::io::stdout(),
        "{banner}\n\n\
         Three organisations are at work. Look on, signed in as the admin (good once, within ten minutes):\n\n  \
         {link}\n\n\
         Ctrl-C ends it, and forgets everything."
    );
    server.await?
}
