//! A router that opens ports for who asks from inside (UPnP): miniupnpd, in the router's namespace.

use super::{Site, iptables, output, run, tool};
use std::{
    fs,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Longer than it takes to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where gateways are searched, in the hexadecimal of `/proc/net/udp`.
const SEARCHED_AT: &str = ":076C ";

/// A running gateway.
pub(crate) struct Gateway {
    process: Child,
    _dir: TempDir,
}

impl Gateway {
    /// Has a site's router answer. `opens` is whether it opens ports, and doesn't refuse to.
    pub(crate) fn at(site: &Site, opens: bool) -> Self {
        Self::start(&site.router, opens).unwrap()
    }

    fn start(router: &str, opens: bool) -> Result<Self, String> {
        // miniupnpd knows only the older of the kernel's two sets of tables, which lie side by side.
        let legacy = |args: &[&str]| {
            let tool = tool("iptables-legacy")?;
            run("iptables-legacy", &[&["netns", "exec", router, &tool][..], args].concat(), true)
        };
        for table in ["nat", "filter", "mangle"] {
            legacy(&["-t", table, "-N", "MINIUPNPD"])?;
        }
        legacy(&["-t", "nat", "-N", "MINIUPNPD-POSTROUTING"])?;
        legacy(&["-t", "nat", "-A", "PREROUTING", "-i", "wan", "-j", "MINIUPNPD"])?;
        iptables(router, &["-A", "INPUT", "-i", "lan", "-j", "ACCEPT"])?;
        iptables(router, &["-A", "FORWARD", "-i", "wan", "-m", "conntrack", "--ctstate", "DNAT", "-j", "ACCEPT"])?;

        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let config = dir.path().join("miniupnpd.conf");
        let allowed = if opens { "allow 1024-65535 10.0.0.0/8 1024-65535\n" } else { "" };
        let settings = "http_port=0\nenable_upnp=yes\nenable_natpmp=no\nsecure_mode=yes\n";
        let text = format!("ext_ifname=wan\nlistening_ip=lan\n{settings}{allowed}deny 0-65535 0.0.0.0/0 0-65535\n");
        fs::write(&config, text).map_err(|error| error.to_string())?;
        let mut command = Command::new(tool("ip")?);
        command.args(["netns", "exec", router, &tool("miniupnpd")?, "-d", "-f"]).arg(config);
        command.arg("-P").arg(dir.path().join("pid"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().map_err(|error| format!("`miniupnpd`: {error}"))?;
        let mut gateway = Self { process, _dir: dir };
        let began = Instant::now();
        while !output("cat", &["netns", "exec", router, "cat", "/proc/net/udp"], true)?.contains(SEARCHED_AT) {
            let ended = gateway.process.try_wait().map_err(|error| error.to_string())?;
            if ended.is_some() || began.elapsed() > PATIENCE {
                return Err(format!("`miniupnpd` answers nobody: {ended:?}"));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(gateway)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
