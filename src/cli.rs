//! The command line.
//!
//! Raw flags are parsed first and then made into what the layers below use, so that every mistake is told in one line
//! before anything begins. Results go to standard output, logs to standard error (`RUST_LOG` chooses them).

mod events;
mod node;
mod run;
mod settings;
mod show;
mod signals;

pub use self::settings::{NodeFlags, Setting, SettingsError, Source};
pub(crate) use self::{
    events::json_sink,
    show::{folded_text, short_peer},
    signals::stop_on_signals,
};

use crate::{demo, home::Home};
use anyhow::Context;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::{io::IsTerminal, path::PathBuf, process::ExitCode};
use tracing_subscriber::EnvFilter;

/// Federated learning without a server: every node trains on its own data, publishes its weights, and folds what the
/// others have published into its own.
#[derive(Parser)]
#[command(name = "peerfold", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Watch several nodes learn together on this machine, and compare it with each of them learning alone.
    Demo(demo::DemoFlags),
    /// Run one training node.
    Node(NodeCommand),
    /// Print the peer id of a home, which is made if it isn't there.
    Id(HomeFlag),
    /// List the strategies with their parameters.
    Strategies,
    /// Print the JSON schema of the events that `--json` writes, one a line.
    EventSchema,
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Clean up after a demo that was killed: waits for the end of standard input, then for the homes to be free.
    #[command(hide = true)]
    DemoGuard {
        /// The demo's directory.
        dir: PathBuf,
    },
}

#[derive(Args)]
struct NodeCommand {
    #[command(flatten)]
    flags: NodeFlags,
    /// Read settings from a TOML file; its keys are the names of these flags.
    #[arg(long, env = "PEERFOLD_CONFIG", value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Print every setting with where it comes from, as TOML, and do nothing else.
    #[arg(long)]
    print_config: bool,
    /// End when standard input ends: for programs that start nodes and may die.
    #[arg(long, hide = true)]
    end_with_stdin: bool,
}

#[derive(Args)]
struct HomeFlag {
    /// The node's own directory.
    #[arg(long, env = "PEERFOLD_HOME", value_name = "DIR")]
    home: Option<PathBuf>,
}

/// Parses the arguments and runs what they say. What went wrong is one line on standard error; the exit code is 0 for
/// success, 2 for arguments that can't be, 1 for all else.
pub fn main() -> ExitCode {
    // Failpoints exist in test builds only.
    let _failpoints = fail::has_failpoints().then(fail::FailScenario::setup);
    let matches = match Cli::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => error.exit(),
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let color = std::io::stderr().is_terminal();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(color).init();
    match dispatch(cli.command, &matches) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo(flags) => return demo::run(&flags),
        Command::Node(node) => {
            let matches = matches.subcommand_matches("node").context("no node arguments")?;
            let settings = settings::resolve(&node.flags, matches, node.config.as_deref())?;
            if node.print_config {
                print!("{}", settings::render(&settings));
            } else {
                node::run(&settings::merged(&settings)?, node.end_with_stdin)?;
            }
        }
        Command::Id(HomeFlag { home }) => {
            let dir = home.map_or_else(settings::default_home, Ok)?;
            println!("{}", Home::peer_id(&dir)?);
        }
        Command::Strategies => print!("{}", show::strategies()),
        Command::EventSchema => println!("{}", events::schema()?),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "peerfold", &mut std::io::stdout());
        }
        Command::DemoGuard { dir } => demo::guard(&dir)?,
    }
    Ok(ExitCode::SUCCESS)
}
