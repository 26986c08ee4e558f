//! A small internet of network namespaces: hosts with an address of their own, behind a firewall or not, and sites behind
//! routers that translate addresses. All that is sent stays between them.

use std::{
    ffi::OsStr,
    io::{self, Write},
    path::Path,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

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
    /// All of them, to be removed.
    namespaces: Vec<String>,
    plugged: u8,
}

/// A host, with its router if there is one.
pub(crate) struct Site {
    host: String,
    /// The namespace that is plugged in.
    outer: String,
    /// Its address in the internet.
    pub(crate) address: String,
}

impl Internet {
    /// Makes an empty one; or says on the terminal why a test is skipped. Where namespaces must work, that is a failure.
    pub(crate) fn new(test: &str) -> Option<Self> {
        match Self::make() {
            Ok(internet) => Some(internet),
            Err(reason) if std::env::var_os("PEERFOLD_TEST_NAMESPACES").is_some() => panic!("{reason}"),
            Err(reason) => {
                // Past what the test runner keeps of a test that passes.
                let _ = writeln!(io::stderr(), "\nSKIPPED {test}: {reason}");
                None
            }
        }
    }

    fn make() -> Result<Self, String> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        tool("iptables")?;
        let name = format!("pi{}n{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        // From here on they are removed, whatever fails.
        let mut internet = Self { name, namespaces: Vec::new(), plugged: 0 };
        let switch = internet.namespace("switch")?;
        ip(&["-n", &switch, "link", "add", "name", "switch", "type", "bridge"])?;
        ip(&["-n", &switch, "link", "set", "switch", "up"])?;
        // Whether rules can be made shows here, and not in the middle of a test.
        run("iptables", &["netns", "exec", &switch, &tool("iptables")?, "-t", "nat", "-L"], true)?;
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
        self.make_site(nat, udp).unwrap()
    }

    fn make_site(&mut self, nat: Nat, udp: bool) -> Result<Site, String> {
        self.plugged += 1;
        let number = self.plugged;
        let (switch, address) = (format!("{}switch", self.name), format!("203.0.113.{number}"));
        let outer = self.namespace(&format!("o{number}"))?;
        let port = format!("port{number}");
        ip(&["-n", &outer, "link", "add", "name", "wan", "type", "veth", "peer", "name", &port, "netns", &switch])?;
        ip(&["-n", &switch, "link", "set", &port, "master", "switch", "up"])?;
        ip(&["-n", &outer, "address", "add", &format!("{address}/24"), "dev", "wan"])?;
        ip(&["-n", &outer, "link", "set", "wan", "up"])?;
        let host = match nat {
            Nat::None | Nat::Firewall => {
                if !udp {
                    iptables(&outer, &["-A", "OUTPUT", "-p", "udp", "-j", "DROP"])?;
                    iptables(&outer, &["-A", "INPUT", "-p", "udp", "-j", "DROP"])?;
                }
                if nat == Nat::Firewall {
                    iptables(&outer, &["-A", "INPUT", "-i", "lo", "-j", "ACCEPT"])?;
                    lets_in_answers(&outer, "INPUT")?;
                }
                outer.clone()
            }
            Nat::Cone | Nat::Symmetric => {
                translates(&outer, nat, udp)?;
                self.behind(&outer, &format!("i{number}"), &format!("10.{number}.0"))?
            }
            Nat::Carrier => {
                translates(&outer, Nat::Cone, udp)?;
                let router = self.behind(&outer, &format!("r{number}"), &format!("100.64.{number}"))?;
                translates(&router, Nat::Cone, udp)?;
                self.behind(&router, &format!("i{number}"), &format!("10.{number}.0"))?
            }
        };
        Ok(Site { host, outer, address })
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
    let output = Command::new(tool("ip")?).args(args).output().map_err(|error| format!("`ip`: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    match output.status.success() {
        true => Ok(()),
        false if other => Err(format!("`{name}` ({}): {said}", args.join(" "))),
        false => Err(format!("`ip {}`: {said}", args.join(" "))),
    }
}
