//! A name server that sites ask: dnsmasq, at one of them.

use super::{Site, output, tool};
use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Longer than it takes to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where names are asked for, in the hexadecimal of `/proc/net/udp`.
const ASKED_AT: &str = ":0035 ";
/// Where `ip netns exec` finds files that a namespace has in place of those in `/etc`.
const OWN_FILES: &str = "/etc/netns";

/// Sites that ask a name server, whether or not it runs.
pub(crate) struct Asking(Vec<PathBuf>);

/// A running name server.
pub(crate) struct NameServer(Child);

impl Asking {
    /// Has sites ask for names at this one.
    pub(crate) fn at(server: &Site, sites: &[&Site]) -> Self {
        let mut asking = Self(Vec::new());
        for site in sites {
            let dir = PathBuf::from(OWN_FILES).join(&site.host);
            fs::create_dir_all(&dir).unwrap();
            asking.0.push(dir.clone());
            fs::write(dir.join("resolv.conf"), format!("nameserver {}\n", server.address)).unwrap();
        }
        asking
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.iter().for_each(|dir| _ = fs::remove_dir_all(dir));
    }
}

impl NameServer {
    /// Starts one that knows this text of a name, and that the other name has this address, and nothing else.
    pub(crate) fn start(site: &Site, text: (&str, &str), address: (&str, &str)) -> Self {
        let mut command = Command::new(tool("ip").unwrap());
        command.args(["netns", "exec", &site.host, &tool("dnsmasq").unwrap()]);
        command.args(["--no-daemon", "--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--user=root"]);
        command.args(["--bind-interfaces", &format!("--listen-address={}", site.address)]);
        command.arg(format!("--txt-record={},{}", text.0, text.1));
        command.arg(format!("--host-record={},{}", address.0, address.1));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = Self(command.spawn().unwrap());
        let began = Instant::now();
        let sockets = ["netns", "exec", &site.host, "cat", "/proc/net/udp"];
        while !output("cat", &sockets, true).unwrap().contains(ASKED_AT) {
            let ended = server.0.try_wait().unwrap();
            assert!(ended.is_none() && began.elapsed() < PATIENCE, "`dnsmasq` answers nobody: {ended:?}");
            thread::sleep(Duration::from_millis(10));
        }
        server
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
