//! The command line.
//!
//! Raw flags are parsed first and then turned into what the layers below use, so that every mistake is reported in one
//! line before anything begins. Results go to standard output, logs to standard error (`RUST_LOG` chooses them).

mod aggregate;
mod built_in;
mod check;
#[cfg(unix)]
mod commanded;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod decoders;
mod derived;
mod events;
mod flags;
mod folder;
mod init_file;
mod invitation;
mod layers;
mod members;
mod model;
mod node;
#[cfg(unix)]
mod peers;
mod planned;
mod run;
mod secret;
mod settings;
mod source;
mod strategies;
mod training;
mod writable;

pub use self::{
    settings::{SettingsError, node_settings},
    source::{Setting, Source},
};
pub use crate::program::TimedEvent;

use crate::{
    bootstrap::{self, BootstrapFlags},
    demo,
    home::Home,
    logs,
    program::{self, print},
    settings::Written,
};
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use events::EventOutput;
use libp2p_identity::PeerId;
use source::Given;
#[cfg(feature = "demo-s3")]
use std::net::SocketAddr;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

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
    /// Run a bootstrap node: where the nodes of all federations find each other. It trains nothing and sees no weights.
    Bootstrap(BootstrapFlags),
    /// Print the peer id of a home, which is made if it isn't there.
    Id {
        #[command(flatten)]
        home: HomeFlag,
    },
    /// Make a federation's secret, which hides it from who doesn't have it, or check a file that has one.
    #[command(subcommand)]
    Secret(secret::SecretCommand),
    /// Print one text with all that a new site needs to join a federation: where to find others, the secret, settings.
    Invite(Box<invitation::InviteFlags>),
    /// Join a federation by what `peerfold invite` printed: writes a configuration and the secret into the home.
    Join(invitation::JoinFlags),
    /// Show the list of members that an administrator has signed, and at the administrator's home change it, for all nodes
    /// with --admin at once.
    Members(Box<members::MembersFlags>),
    /// Save a home's newest folded model, also while its node runs.
    Model(model::ModelFlags),
    /// Show who is connected to a running node: address, transport, entries, bytes, last seen.
    #[cfg(unix)]
    Peers {
        #[command(flatten)]
        home: HomeFlag,
        /// Write it as one JSON object, with whole peer ids.
        #[arg(long)]
        json: bool,
    },
    /// Try out the network before a node runs: dials the list, asks to be dialled back, and says what is wrong and what to
    /// do. Takes the settings of the node. The exit code is 1 if nobody is reached.
    Check(Box<check::CheckFlags>),
    /// Fold weights that lie in safetensors files, without any node: for scripts, and programs in other languages.
    #[command(after_long_help = aggregate::HELP)]
    Aggregate(Box<aggregate::AggregateFlags>),
    /// Look into a shared folder of any kind, and publish in it by hand.
    #[command(subcommand)]
    Folder(folder::FolderCommand),
    /// List the strategies: what each does, its paper, and the parameters that `--param NAME=VALUE` sets.
    Strategies(strategies::StrategiesFlags),
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
    /// Serve the directory's folders as S3 buckets to a demo's nodes, until standard input ends. Keys by `AWS_…`.
    #[cfg(feature = "demo-s3")]
    #[command(hide = true)]
    DemoBucket {
        /// The directory.
        dir: PathBuf,
        /// Where to listen.
        listen: SocketAddr,
    },
}

/// What follows the flags in `node --help`.
const NODE_HELP: &str = "\
Each of these flags is also an environment variable and a key of the file that --config names: \
--steps-per-epoch 100, PEERFOLD_STEPS_PER_EPOCH=100, steps-per-epoch = 100. A flag wins over a variable, \
that over the file, that over the default; --print-config shows what holds.";

/// The flags that `node -h` shows, those a newcomer needs. The rest are in `--help`.
const NODE_BRIEF: [&str; 11] = [
    "federation",
    "home",
    "bootstrap",
    "folder",
    "dataset",
    "data-dir",
    "partition",
    "epochs",
    "min-peers",
    "stay",
    "out",
];
/// What `demo -h` shows.
const DEMO_BRIEF: [&str; 9] = ["nodes", "epochs", "folder", "fallback", "cut", "kill", "sync", "dataset", "data_dir"];

/// The command line, with short help for newcomers.
fn command_line() -> clap::Command {
    Cli::command()
        .mut_subcommand("node", |node| brief(node, &NODE_BRIEF, "peerfold node --help"))
        .mut_subcommand("demo", |demo| brief(demo, &DEMO_BRIEF, "peerfold demo --help"))
}

/// Shows only these arguments in the short help, and says where to find the others.
fn brief(command: clap::Command, shown: &[&str], whole: &str) -> clap::Command {
    let command = command.mut_args(|arg| {
        let hidden = !shown.contains(&arg.get_id().as_str());
        arg.hide_short_help(hidden)
    });
    let hidden = command.get_arguments().filter(|arg| arg.is_hide_short_help_set() && !arg.is_hide_set()).count();
    command.after_help(format!("These are the flags to begin with. `{whole}` shows {hidden} more."))
}

#[derive(Args)]
#[command(allow_negative_numbers = true, after_long_help = NODE_HELP)]
struct NodeCommand {
    #[command(flatten)]
    flags: flags::NodeFlags,
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

/// Reports that a home was made, in case an existing one was meant.
fn say_new_home(dir: &Path, peer: &PeerId) {
    eprintln!("there was no home {}: it was made, with a new identity, {peer}", dir.display());
}

fn run_node(node: &NodeCommand, settings: Result<Given, SettingsError>) -> anyhow::Result<()> {
    // Readers of events want to see wrong settings there too.
    let json = settings.as_ref().unwrap_or(&node.flags.0).get("json");
    let output = EventOutput::new(json.is_some_and(|json| json.value == Written::Switch(true)));
    let ended = settings.map_err(Into::into).and_then(|settings| {
        let run = node::run(&layers::values(&settings), node.end_with_stdin, &output);
        run.map_err(|error| layers::blamed(error, &settings))
    });
    node::ended(ended, &output)
}

/// Parses the arguments and runs the command. Errors are one line on standard error; the exit code is 0 for success, 2
/// for invalid arguments, 1 for anything else.
pub fn main() -> ExitCode {
    // Failpoints exist in test builds only.
    let _failpoints = fail::has_failpoints().then(fail::FailScenario::setup);
    let logs = |matches: &ArgMatches| match matches.subcommand_name() {
        Some("bootstrap") => bootstrap::LOGS,
        _ => logs::NODE,
    };
    program::run(command_line(), "PEERFOLD_", logs, |matches| dispatch(Cli::from_arg_matches(matches)?.command))
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo(flags) => return demo::run(&flags),
        Command::Node(node) => {
            let settings = layers::resolve(&node.flags.0, node.config.as_deref());
            if node.print_config {
                print(&layers::render(&settings?))?;
            } else {
                run_node(&node, settings)?;
            }
        }
        Command::Bootstrap(flags) => bootstrap::run(&flags)?,
        Command::Id { home: HomeFlag { home } } => {
            let dir = home.map_or_else(settings::default_home, Ok)?;
            let is_new = Home::check_exists(&dir).is_err();
            let peer = Home::peer_id(&dir)?;
            if is_new {
                say_new_home(&dir, &peer);
            }
            print(&format!("{peer}\n"))?;
        }
        #[cfg(unix)]
        Command::Peers { home: HomeFlag { home }, json } => {
            let status = crate::p2p::NetworkStatus::ask(&home.map_or_else(settings::default_home, Ok)?)?;
            print(&if json {
                serde_json::to_string(&status)? + "\n"
            } else {
                peers::text(&status, program::columns())
            })?;
        }
        Command::Secret(command) => secret::run(&command)?,
        Command::Invite(flags) => invitation::invite(&flags)?,
        Command::Join(flags) => invitation::join(&flags)?,
        Command::Members(flags) => members::run(&flags)?,
        Command::Model(flags) => model::run(&flags)?,
        Command::Check(flags) => return check::run(&flags),
        Command::Aggregate(flags) => aggregate::run(&flags)?,
        Command::Folder(command) => folder::run(&command)?,
        Command::Strategies(flags) => print(&strategies::text(&flags)?)?,
        Command::EventSchema => print(&format!("{}\n", events::schema()?))?,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command_line(), "peerfold", &mut script);
            print(&String::from_utf8(script)?)?;
        }
        Command::DemoGuard => demo::guard()?,
        #[cfg(feature = "demo-s3")]
        Command::DemoBucket { dir, listen } => demo::serve_bucket(&dir, listen)?,
    }
    Ok(ExitCode::SUCCESS)
}
