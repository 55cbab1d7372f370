//! The binary: reads the configuration, starts the parts, waits for the signal to stop.

use std::io::Write as _;

use baton::app::App;
use baton::config::{Cli, Command};
use baton::{demo, limits, telemetry};
use clap::Parser as _;

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let metrics = telemetry::start(&cli.config)?;
    limits::raise_open_files();
    actix_web::rt::System::new().block_on(async move {
        match cli.command.unwrap_or(Command::Serve) {
            Command::Serve => {
                let app = App::start(cli.config, metrics).await?;
                // Whoever started it may not read on; that is no reason not to serve.
                let _shown = writeln!(std::io::stdout(), "{}", app.banner());
                app.run_until(limits::stop_signal()?).await
            }
            Command::Demo => demo::run(cli.config, metrics).await,
        }
    })
}
