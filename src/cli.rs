//! The command line.
//!
//! Raw flags are parsed first and then made into what the layers below use, so that every mistake is told in one line
//! before anything begins. Results go to standard output, logs to standard error (`RUST_LOG` chooses them).

mod events;
mod mistakes;
mod node;
mod run;
mod settings;
mod show;
mod signals;

pub use self::settings::{NodeFlags, Setting, SettingsError, Source};
pub(crate) use self::{events::json_sink, show::short_peer, signals::stop_on_signals};

use crate::{demo, home::Home};
use anyhow::Context;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};
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
    Node(Box<NodeCommand>),
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
    /// Keep a demo's temporary directory: makes it and prints its path; removes it when standard input has ended and
    /// its homes are free.
    #[command(hide = true)]
    DemoGuard,
}

#[derive(Args)]
#[command(allow_negative_numbers = true)]
struct NodeCommand {
    #[command(flatten)]
    flags: NodeFlags,
    /// Read settings from a TOML file; its keys are the names of these flags.
    #[arg(long, env = "PEERFOLD_CONFIG", value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Print every setting with where it comes from, as TOML, and do nothing else.
    #[arg(long)]
    print_config: bool,
    /// End when standard input ends, and use only a home that is there: for programs that start nodes and may die.
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
    let parsed = command().try_get_matches().and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return mistakes::in_arguments(&error),
    };
    let color = std::io::stderr().is_terminal();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(color).init();
    match dispatch(cli.command, &matches) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", mistakes::one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// The command line's description. A variable of the environment that is empty is one that is not set.
fn command() -> clap::Command {
    Cli::command().mut_subcommands(|command| {
        command.mut_args(|arg| match arg.get_env().map(std::env::var_os) {
            Some(Some(value)) if value.is_empty() => arg.env(None),
            _ => arg,
        })
    })
}

/// Writes to standard output. That its reader has left is no error.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("writing to standard output"),
        _ => Ok(()),
    }
}

fn dispatch(command: Command, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo(flags) => return demo::run(&flags),
        Command::Node(node) => {
            let matches = matches.subcommand_matches("node").context("no node arguments")?;
            let settings = settings::resolve(&node.flags, matches, node.config.as_deref())?;
            if node.print_config {
                print(&settings::render(&settings))?;
            } else {
                node::run(&settings::merged(&settings)?, node.end_with_stdin)?;
            }
        }
        Command::Id(HomeFlag { home }) => {
            let dir = home.map_or_else(settings::default_home, Ok)?;
            print(&format!("{}\n", Home::peer_id(&dir)?))?;
        }
        Command::Strategies => print(&show::strategies())?,
        Command::EventSchema => print(&format!("{}\n", events::schema()?))?,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "peerfold", &mut script);
            print(&String::from_utf8(script)?)?;
        }
        Command::DemoGuard => demo::guard()?,
    }
    Ok(ExitCode::SUCCESS)
}
