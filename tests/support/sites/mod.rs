//! A small internet of network namespaces: hosts with an address of their own, behind a firewall or not, and sites behind
//! routers that translate addresses. All that is sent stays between them.

mod gateway;
mod line;
mod name_server;

use std::{
    ffi::OsStr,
    io::{self, Write},
    path::Path,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

pub(crate) use gateway::Gateway;
pub(crate) use line::Quality;
pub(crate) use name_server::{Asking, NameServer};

use line::Line;

/// What the addresses of the internet begin with: with that of a range for documentation.
const DOCUMENTATION: &str = "203.0.113";
/// One that isn't reserved for anything: a gateway that has another address knows that it is not of the internet, and
/// refuses. It leads nowhere either.
const UNRESERVED: &str = "11.22.33";

/// How a site is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nat {
    /// Its host has an address of the internet.
    None,
    /// So it has, and a firewall that lets in only answers.
    Firewall,
    /// A router translates, with the same port for whatever a socket sends, and lets in only answers.
    Cone,
    /// One that draws another port for each other end.
    Symmetric,
    /// A router like [`Cone`](Self::Cone) behind one of its provider's, which is like it too.
    Carrier,
}

/// The cable, and the hosts at its ends. Needs the rights of an administrator.
pub(crate) struct Internet {
    name: String,
    network: &'static str,
    /// All of them, to be removed.
    namespaces: Vec<String>,
    plugged: u8,
    /// Those that carry anything.
    lines: Vec<Line>,
}

/// A host, with its router if there is one.
pub(crate) struct Site {
    host: String,
    /// The namespace that is plugged in.
    outer: String,
    /// The router next to the host. If there is none, the host.
    router: String,
    /// Its address in the internet.
    pub(crate) address: String,
}

impl Internet {
    /// Makes an empty one; or says on the terminal why a test is skipped. Where namespaces must work, that is a failure.
    pub(crate) fn new(test: &str) -> Option<Self> {
        Self::made(test, DOCUMENTATION, &[])
    }

    /// Likewise, with addresses with which a router opens ports: see [`Gateway`]. Not every system has what it takes, so that
    /// the test is skipped wherever it can't be made.
    pub(crate) fn with_gateways(test: &str) -> Option<Self> {
        Self::made(test, UNRESERVED, &["miniupnpd", "iptables-legacy"])
    }

    /// Likewise, where there is a [`NameServer`].
    pub(crate) fn with_names(test: &str) -> Option<Self> {
        Self::made(test, DOCUMENTATION, &["dnsmasq"])
    }

    fn made(test: &str, network: &'static str, tools: &[&str]) -> Option<Self> {
        match Self::make(network, tools) {
            Ok(internet) => Some(internet),
            Err(reason) if tools.is_empty() && std::env::var_os("PEERFOLD_TEST_NAMESPACES").is_some() => {
                panic!("{reason}")
            }
            Err(reason) => {
                // Past what the test runner keeps of a test that passes.
                let _ = writeln!(io::stderr(), "\nSKIPPED {test}: {reason}");
                None
            }
        }
    }

    fn make(network: &'static str, tools: &[&str]) -> Result<Self, String> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        tool("iptables")?;
        tools.iter().try_for_each(|name| tool(name).map(drop))?;
        let name = format!("pi{}n{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        // From here on they are removed, whatever fails.
        let mut internet = Self { name, network, namespaces: Vec::new(), plugged: 0, lines: Vec::new() };
        let switch = internet.namespace("switch")?;
        ip(&["-n", &switch, "link", "add", "name", "switch", "type", "bridge"])?;
        ip(&["-n", &switch, "link", "set", "switch", "up"])?;
        // Whether rules can be made shows here, and not in the middle of a test.
        for name in tools.iter().filter(|name| name.starts_with("iptables")).chain([&"iptables"]) {
            run(name, &["netns", "exec", &switch, &tool(name)?, "-t", "nat", "-L"], true)?;
        }
        Ok(internet)
    }

    fn namespace(&mut self, name: &str) -> Result<String, String> {
        let name = format!("{}{name}", self.name);
        ip(&["netns", "add", &name])?;
        self.namespaces.push(name.clone());
        ip(&["-n", &name, "link", "set", "lo", "up"])?;
        Ok(name)
    }

    /// Connects one more site. `udp` is whether its router lets UDP out.
    pub(crate) fn site(&mut self, nat: Nat, udp: bool) -> Site {
        self.make_site(nat, udp, None).unwrap()
    }

    /// Connects a host with an address of the internet, by a line that is bad.
    pub(crate) fn site_by(&mut self, line: Quality) -> Site {
        self.make_site(Nat::None, true, Some(line)).unwrap()
    }

    /// Connects a host that has left its network, with another address.
    pub(crate) fn move_in(&mut self, site: &mut Site) {
        self.plugged += 1;
        site.address = format!("{}.{}", self.network, self.plugged);
        self.plug_in(&site.outer, &site.address, None).unwrap();
    }

    /// Puts a device with an address of the internet into a namespace.
    fn plug_in(&mut self, outer: &str, address: &str, line: Option<Quality>) -> Result<(), String> {
        let (switch, port) = (format!("{}switch", self.name), format!("port{}", self.plugged));
        let cable = |from: &str, device: &str, to: &str, other: &str| {
            ip(&["-n", from, "link", "add", "name", device, "type", "veth", "peer", "name", other, "netns", to])?;
            ip(&["-n", from, "link", "set", device, "up"])
        };
        if let Some(quality) = line {
            let middle = self.namespace(&format!("m{}", self.plugged))?;
            cable(&middle, "in", outer, "wan")?;
            cable(&middle, "out", &switch, &port)?;
            line::plain(outer, "wan")?;
            line::plain(&switch, &port)?;
            self.lines.push(Line::between(&middle, ["in", "out"], quality)?);
        } else {
            cable(outer, "wan", &switch, &port)?;
        }
        ip(&["-n", &switch, "link", "set", &port, "master", "switch", "up"])?;
        ip(&["-n", outer, "address", "add", &format!("{address}/24"), "dev", "wan"])?;
        ip(&["-n", outer, "link", "set", "wan", "up"])
    }

    fn make_site(&mut self, nat: Nat, udp: bool, line: Option<Quality>) -> Result<Site, String> {
        self.plugged += 1;
        let number = self.plugged;
        let address = format!("{}.{number}", self.network);
        let outer = self.namespace(&format!("o{number}"))?;
        self.plug_in(&outer, &address, line)?;
        let (host, router) = match nat {
            Nat::None | Nat::Firewall => {
                if !udp {
                    iptables(&outer, &["-A", "OUTPUT", "-p", "udp", "-j", "DROP"])?;
                    iptables(&outer, &["-A", "INPUT", "-p", "udp", "-j", "DROP"])?;
                }
                if nat == Nat::Firewall {
                    iptables(&outer, &["-A", "INPUT", "-i", "lo", "-j", "ACCEPT"])?;
                    lets_in_answers(&outer, "INPUT")?;
                }
                (outer.clone(), outer.clone())
            }
            Nat::Cone | Nat::Symmetric => {
                translates(&outer, nat, udp)?;
                (self.behind(&outer, &format!("i{number}"), &format!("10.{number}.0"))?, outer.clone())
            }
            Nat::Carrier => {
                translates(&outer, Nat::Cone, udp)?;
                let router = self.behind(&outer, &format!("r{number}"), &format!("100.64.{number}"))?;
                translates(&router, Nat::Cone, udp)?;
                (self.behind(&router, &format!("i{number}"), &format!("10.{number}.0"))?, router)
            }
        };
        Ok(Site { host, outer, router, address })
    }

    /// Connects a namespace with the inner side of a router, in a network of 256 addresses that begin so.
    fn behind(&mut self, router: &str, name: &str, network: &str) -> Result<String, String> {
        let inner = self.namespace(name)?;
        ip(&["-n", router, "link", "add", "name", "lan", "type", "veth", "peer", "name", "wan", "netns", &inner])?;
        for (namespace, device, last) in [(router, "lan", 1), (&inner, "wan", 2)] {
            ip(&["-n", namespace, "address", "add", &format!("{network}.{last}/24"), "dev", device])?;
            ip(&["-n", namespace, "link", "set", device, "up"])?;
        }
        ip(&["-n", &inner, "route", "add", "default", "via", &format!("{network}.1")])?;
        Ok(inner)
    }
}

/// Makes a router of a namespace: between `lan`, which is yet to be connected, and `wan`.
fn translates(router: &str, nat: Nat, udp: bool) -> Result<(), String> {
    run("sysctl", &["netns", "exec", router, &tool("sysctl")?, "-qw", "net.ipv4.ip_forward=1"], true)?;
    iptables(router, &["-P", "INPUT", "DROP"])?;
    if !udp {
        iptables(router, &["-A", "FORWARD", "-p", "udp", "-j", "DROP"])?;
    }
    lets_in_answers(router, "FORWARD")?;
    iptables(router, &["-A", "FORWARD", "-i", "lan", "-o", "wan", "-j", "ACCEPT"])?;
    let translate = ["-t", "nat", "-A", "POSTROUTING", "-o", "wan", "-j", "MASQUERADE"];
    let draws = if nat == Nat::Symmetric { &["--random-fully"][..] } else { &[] };
    iptables(router, &[&translate[..], draws].concat())
}

fn lets_in_answers(namespace: &str, chain: &str) -> Result<(), String> {
    iptables(namespace, &["-P", chain, "DROP"])?;
    iptables(namespace, &["-A", chain, "-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT"])
}

impl Drop for Internet {
    fn drop(&mut self) {
        self.lines.clear();
        for name in &self.namespaces {
            let _ = ip(&["netns", "delete", name]);
        }
    }
}

impl Site {
    /// The same command, at this site.
    pub(crate) fn at(&self, command: &Command) -> Command {
        let mut there = Command::new(tool("ip").unwrap());
        there.args(["netns", "exec", &self.host]).arg(command.get_program()).args(command.get_args());
        there.env_clear();
        for (name, value) in command.get_envs() {
            there.env(name, value.unwrap_or(OsStr::new("")));
        }
        if let Some(dir) = command.get_current_dir() {
            there.current_dir(dir);
        }
        there
    }

    /// Pulls its cable: nothing passes, and nobody is told.
    pub(crate) fn pull(&self) {
        ip(&["-n", &self.outer, "link", "set", "wan", "down"]).unwrap();
    }

    /// Takes away its device with its address, and it is told: it leaves this network.
    pub(crate) fn leave(&self) {
        ip(&["-n", &self.outer, "link", "delete", "wan"]).unwrap();
    }

    /// Its router lets nothing out to another site, and nobody is told.
    pub(crate) fn shut_out(&self, other: &Site) {
        iptables(&self.outer, &["-I", "FORWARD", "-d", &other.address, "-j", "DROP"]).unwrap();
    }

    /// It does again.
    pub(crate) fn let_out(&self, other: &Site) {
        iptables(&self.outer, &["-D", "FORWARD", "-d", &other.address, "-j", "DROP"]).unwrap();
    }

    /// Plugs it in again.
    pub(crate) fn plug(&self) {
        ip(&["-n", &self.outer, "link", "set", "wan", "up"]).unwrap();
    }
}

fn iptables(namespace: &str, args: &[&str]) -> Result<(), String> {
    run("iptables", &[&["netns", "exec", namespace, &tool("iptables")?][..], args].concat(), true)
}

fn ip(args: &[&str]) -> Result<(), String> {
    run("ip", args, false)
}

/// Where a program lies: what an administrator needs isn't in everybody's path.
fn tool(name: &str) -> Result<String, String> {
    let dirs = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    let mut paths = dirs.into_iter().map(|dir| format!("{dir}/{name}"));
    paths.find(|path| Path::new(path).exists()).ok_or(format!("`{name}` isn't installed: .ci/install-tools does it"))
}

/// Runs `ip`, for the program of this name if it is another.
fn run(name: &str, args: &[&str], other: bool) -> Result<(), String> {
    output(name, args, other).map(drop)
}

/// Likewise; gives what it writes.
fn output(name: &str, args: &[&str], other: bool) -> Result<String, String> {
    let output = Command::new(tool("ip")?).args(args).output().map_err(|error| format!("`ip`: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false if other => Err(format!("`{name}` ({}): {said}", args.join(" "))),
        false => Err(format!("`ip {}`: {said}", args.join(" "))),
    }
}
