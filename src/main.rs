//! The binary: reads the configuration, starts the parts, waits for the signal to stop.

use std::io::Write as _;
use std::process::ExitCode;

use baton::app::App;
use baton::config::{Cli, Command, ServerCommand};
use baton::{bench, cli, demo, limits, telemetry};
use clap::Parser as _;

/// Most of what is allocated for a request is given back on another thread, which the system's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Threads for what blocks at the start, and for the reads of what runs in the background.
const BLOCKING: usize = 2;

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let command = match cli.command {
        Some(Command::Client(command)) => {
            let run = cli::run(command, &cli.config);
            return Ok(actix_web::rt::System::new().block_on(run).into());
        }
        Some(Command::Server(command)) => command,
        None => ServerCommand::Serve,
    };
    let mut config = cli.config;
    if let ServerCommand::Demo(options) = &command {
        demo::suit(&mut config, *options)?;
    }
    let metrics = telemetry::start(&config)?;
    limits::raise_open_files();
    let runtime = limits::runtime(BLOCKING)?;
    actix_web::rt::System::with_tokio_rt(|| runtime).block_on(async move {
        match command {
            ServerCommand::Serve => {
                let app = App::start(config, metrics).await?;
                // Whoever started it may not read on; that is no reason not to serve.
                let _shown = writeln!(std::io::stdout(), "{}", app.banner());
                app.run_until(limits::stop_signal()?).await?;
            }
            ServerCommand::Demo(options) => demo::run(config, options, metrics).await?,
            ServerCommand::Bench(options) => bench::run(*options, &config).await?,
            ServerCommand::BenchBaseline => bench::serve_baseline(&config).await?,
        }
        Ok(ExitCode::SUCCESS)
    })
}
