//! Hosts on one switch, each on a line of the same speed: network namespaces, a bridge, and token buckets.

use super::namespaces::ip;
use std::{
    io::{self, Write},
    sync::atomic::{AtomicU32, Ordering},
};

/// Some hosts, and the switch between them. Needs the rights of an administrator.
pub struct Switch {
    name: String,
    hosts: usize,
}

impl Switch {
    /// Makes them, with lines that carry so many Mbit/s each way; or says on the terminal why a test is skipped.
    pub fn new(test: &str, hosts: usize, mbits: u32) -> Option<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("pf{}s{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let switch = Self { name, hosts };
        match switch.make(mbits) {
            Ok(()) => Some(switch),
            Err(reason) => {
                // Past what the test runner keeps of a test that passes.
                let _ = writeln!(io::stderr(), "\nSKIPPED {test}: {reason}");
                None
            }
        }
    }

    fn make(&self, mbits: u32) -> Result<(), String> {
        let hub = self.hub();
        ip(&["netns", "add", &hub])?;
        ip(&["-n", &hub, "link", "add", "switch", "type", "bridge"])?;
        ip(&["-n", &hub, "link", "set", "switch", "up"])?;
        for host in 0..self.hosts {
            let (name, port) = (self.name(host), format!("port{host}"));
            ip(&["netns", "add", &name])?;
            ip(&["-n", &hub, "link", "add", &port, "type", "veth", "peer", "name", "line", "netns", &name])?;
            ip(&["-n", &hub, "link", "set", &port, "master", "switch"])?;
            ip(&["-n", &hub, "link", "set", &port, "up"])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
            ip(&["-n", &name, "address", "add", &format!("{}/24", self.address(host)), "dev", "line"])?;
            ip(&["-n", &name, "link", "set", "line", "up"])?;
            shape(&name, "line", mbits)?;
            shape(&hub, &port, mbits)?;
        }
        Ok(())
    }

    fn hub(&self) -> String {
        format!("{}hub", self.name)
    }

    /// The name of a host's namespace.
    pub fn name(&self, host: usize) -> String {
        format!("{}h{host}", self.name)
    }

    /// A host's address.
    pub fn address(&self, host: usize) -> String {
        format!("10.78.0.{}", host + 1)
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let names = (0..self.hosts).map(|host| self.name(host)).chain([self.hub()]);
        names.for_each(|name| _ = ip(&["netns", "delete", &name]));
    }
}

/// What leaves by this device leaves at this speed.
fn shape(namespace: &str, device: &str, mbits: u32) -> Result<(), String> {
    let (rate, queue) = (format!("{mbits}mbit"), "100ms");
    let of_device = ["netns", "exec", namespace, "tc", "qdisc", "add", "dev", device, "root"];
    ip(&[&of_device[..], &["tbf", "rate", &rate, "burst", "64kb", "latency", queue]].concat())
}
