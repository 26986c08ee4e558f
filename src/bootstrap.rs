//! The bootstrap node as a program: `peerfold bootstrap`, and `peerfold-bootstrap`, which has no training in it.

use crate::{
    home::Home,
    node::Stop,
    p2p::{BootstrapNode, RelayLimits, listen_address},
    program::{end_with_stdin, print, run as run_program, stop_on_signals},
    secret::Secret,
    settings::ByteSize,
};
use anyhow::{Context, bail};
use clap::{Args, CommandFactory, FromArgMatches, Parser};
use std::{path::PathBuf, process::ExitCode, time::Duration};
use tokio::runtime::Builder;

/// What is logged if `RUST_LOG` doesn't say: a line of figures a minute.
pub(crate) const LOGS: &str =
    "warn,libp2p_kad=error,libp2p_autonat=error,libp2p_relay=error,quinn_udp=error,peerfold=info";
/// The home that is used when none is given, in the user's own.
const DEFAULT_HOME: &str = ".peerfold-bootstrap";

/// The flags of a bootstrap node.
#[derive(Debug, Clone, Args)]
pub struct BootstrapFlags {
    /// The bootstrap node's own directory: its identity, which the others' lists name. [default: ~/.peerfold-bootstrap]
    #[arg(long, env = "PEERFOLD_BOOTSTRAP_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Where to listen, as /ip4/0.0.0.0/tcp/PORT or /ip4/0.0.0.0/udp/PORT/quic-v1; may be given several times.
    /// [default: port 4600 of every interface, TCP and QUIC]
    #[arg(long, env = "PEERFOLD_BOOTSTRAP_LISTEN", value_name = "MULTIADDR", value_delimiter = ',')]
    pub listen: Vec<String>,
    /// The file with the secret of those who are to find each other here, from `peerfold secret new`. Nobody else can
    /// connect. Over TCP alone.
    #[arg(long, env = "PEERFOLD_BOOTSTRAP_SECRET", value_name = "FILE")]
    pub secret: Option<PathBuf>,
    /// Connections at once; fewer if there are not as many file descriptors. A quarter of them may be of one address, and
    /// where they are short, the oldest is closed for a new one.
    #[arg(long, env = "PEERFOLD_BOOTSTRAP_MAX_CONNECTIONS", value_name = "N", default_value_t = BootstrapNode::CONNECTIONS,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,
    /// Don't relay for nodes that can't be reached directly. They need another relay to find each other, and one to get a
    /// direct connection.
    #[arg(long, env = "PEERFOLD_BOOTSTRAP_NO_RELAY", value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    pub no_relay: bool,
    /// Nodes that may be reached by this relay at once.
    #[arg(long, env = "PEERFOLD_BOOTSTRAP_RELAY_NODES", value_name = "N", default_value_t = RelayLimits::default().reservations)]
    pub relay_nodes: usize,
    /// Connections that are relayed at once.
    #[arg(long, env = "PEERFOLD_BOOTSTRAP_RELAY_CONNECTIONS", value_name = "N", default_value_t = RelayLimits::default().circuits)]
    pub relay_connections: usize,
    /// Relayed connections that one peer makes.
    #[arg(long, env = "PEERFOLD_BOOTSTRAP_RELAY_CONNECTIONS_PER_PEER", value_name = "N",
        default_value_t = RelayLimits::default().circuits_of_peer)]
    pub relay_connections_per_peer: usize,
    /// Seconds that a relayed connection may last, and that a node may be reached until it asks again.
    #[arg(long, env = "PEERFOLD_BOOTSTRAP_RELAY_SECONDS", value_name = "SECONDS",
        default_value_t = RelayLimits::default().lasts.as_secs(), value_parser = clap::value_parser!(u64).range(60..=86_400))]
    pub relay_seconds: u64,
    /// Bytes that are passed on of one relayed connection, each way; 0: any number. Entries need a kilobyte each;
    /// weights go by relays only if their nodes have --relay-weights.
    #[arg(long, env = "PEERFOLD_BOOTSTRAP_RELAY_BYTES", value_name = "SIZE",
        default_value_t = ByteSize(RelayLimits::default().bytes))]
    pub relay_bytes: ByteSize,
    /// End when standard input ends, and use only a home that is there: for programs that start nodes and may die.
    #[arg(long, hide = true)]
    pub end_with_stdin: bool,
}

impl BootstrapFlags {
    /// How much it relays, if anything.
    fn relays(&self) -> Option<RelayLimits> {
        let time = Duration::from_secs(self.relay_seconds);
        (!self.no_relay).then_some(RelayLimits {
            reservations: self.relay_nodes,
            reserved_for: time,
            circuits: self.relay_connections,
            circuits_of_peer: self.relay_connections_per_peer,
            lasts: time,
            bytes: self.relay_bytes.as_u64(),
        })
    }
}

/// A bootstrap node of Peerfold: where the nodes of all federations find each other. It trains nothing and sees no
/// weights. It prints the addresses for the nodes' lists, one a line, and runs until stopped.
#[derive(Parser)]
#[command(name = "peerfold-bootstrap", version, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    flags: BootstrapFlags,
}

/// The whole program `peerfold-bootstrap`.
pub fn main() -> ExitCode {
    run_program(
        Cli::command(),
        // Variables with other prefixes are for nodes that are started in the same environment.
        "PEERFOLD_BOOTSTRAP_",
        |_| LOGS,
        |matches| {
            run(&Cli::from_arg_matches(matches)?.flags)?;
            Ok(ExitCode::SUCCESS)
        },
    )
}

/// Runs a bootstrap node until the first signal. Prints its addresses, one a line, as soon as it listens there.
pub(crate) fn run(flags: &BootstrapFlags) -> anyhow::Result<()> {
    if flags.end_with_stdin {
        end_with_stdin(|_| {});
    }
    let stop = Stop::new();
    stop_on_signals(stop.clone())?;
    let parse = |text: &String| listen_address(text).with_context(|| format!("--listen {text}"));
    let listen = flags.listen.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let secret = flags.secret.as_deref().map(Secret::read).transpose()?;
    let home = flags.home.clone().map_or_else(default_home, Ok)?;
    if flags.end_with_stdin && !home.is_dir() {
        // The program that started this has gone, and has removed the home.
        bail!("the home {} isn't there", home.display());
    }
    let home = Home::open(home)?;
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        let node = BootstrapNode::start_with(home.keypair(), &listen, secret.as_ref(), flags.relays())?;
        let node = node.limited(flags.max_connections);
        // Even if the list can't be written, serve the nodes that know the addresses.
        let mut written = Ok(());
        let listening = |address: &_| {
            if let Err(error) = print(&format!("{address}\n")) {
                tracing::warn!("the address {address} isn't told: {error:#}");
                written = Err(error);
            }
        };
        node.run(listening, stop.requested()).await?;
        written
    })
}

fn default_home() -> anyhow::Result<PathBuf> {
    let user = std::env::home_dir().filter(|dir| !dir.as_os_str().is_empty());
    user.map(|dir| dir.join(DEFAULT_HOME)).context("no home directory is known; give --home")
}
