//! Runs the program in a sandbox with an empty environment, and kills it when a test fails.

use peerfold::{cli::TimedEvent, node::Event};
use serde_json::Value;
use std::{
    cell::Cell,
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Longer than anything takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// How often to look at what no event tells.
pub(crate) const LOOK: Duration = Duration::from_millis(10);

/// Tests that run beside each other share it; one that needs the machine has it alone.
static MACHINE: RwLock<()> = RwLock::new(());

thread_local! {
    /// The sandboxes of this thread's test: it must not wait for itself.
    static OF_THREAD: Cell<usize> = const { Cell::new(0) };
}

/// That a test may have processes now.
enum Turn {
    Shared { _held: Option<RwLockReadGuard<'static, ()>> },
    Alone { _held: RwLockWriteGuard<'static, ()> },
}

impl Turn {
    fn shared() -> Self {
        let is_first = OF_THREAD.replace(OF_THREAD.get() + 1) == 0;
        Self::Shared { _held: is_first.then(|| MACHINE.read().unwrap_or_else(PoisonError::into_inner)) }
    }

    fn alone() -> Self {
        assert_eq!(OF_THREAD.replace(1), 0, "it would wait for itself");
        Self::Alone { _held: MACHINE.write().unwrap_or_else(PoisonError::into_inner) }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        OF_THREAD.set(OF_THREAD.get().saturating_sub(1));
    }
}

/// A directory with all that a test's processes may touch.
pub(crate) struct Sandbox {
    dir: TempDir,
    _turn: Turn,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self::in_turn(Turn::shared())
    }

    /// While no other test of this program has one: for what is told by how fast several nodes are.
    pub(crate) fn alone() -> Self {
        Self::in_turn(Turn::alone())
    }

    fn in_turn(turn: Turn) -> Self {
        let sandbox = Self { dir: tempfile::tempdir().unwrap(), _turn: turn };
        for dir in [sandbox.user_home(), sandbox.temporary()] {
            fs::create_dir_all(dir).unwrap();
        }
        sandbox
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `$HOME`.
    pub(crate) fn user_home(&self) -> PathBuf {
        self.path("user")
    }

    /// `$TMPDIR`: with what an URL or a shell would stumble over.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.path("temporary, 100%20 files")
    }

    /// The program with nothing of this process's environment.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_peerfold"));
        command.env_clear().env("HOME", self.user_home()).env("TMPDIR", self.temporary());
        // Otherwise a program without credentials asks a link-local address for a role's.
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        command.current_dir(self.dir.path()).args(args);
        command
    }

    /// A node with a home of this name, short epochs, and events as JSON lines.
    pub(crate) fn node(&self, home: &str, args: &[&str]) -> Command {
        let mut command = self.command(["node"].iter().chain(args));
        // As variables, so that a test's flags win.
        command.env("PEERFOLD_FEDERATION", "test").env("PEERFOLD_HOME", self.path(home));
        command.env("PEERFOLD_STEPS_PER_EPOCH", "5").env("PEERFOLD_JSON", "true");
        command
    }

    /// A folder's URL.
    pub(crate) fn folder(&self) -> String {
        url::Url::from_directory_path(self.path("folder")).unwrap().to_string()
    }

    /// The ids of the processes that were started in this sandbox, by their environment.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let variable = format!("TMPDIR={}", self.temporary().display());
        let of_sandbox = |process: &fs::DirEntry| {
            let environment = fs::read(process.path().join("environ")).unwrap_or_default();
            environment.split(|&byte| byte == 0).any(|entry| entry == variable.as_bytes())
        };
        let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok).filter(of_sandbox);
        processes.filter_map(|process| process.file_name().to_str()?.parse().ok()).collect()
    }

    /// Waits until no process of the sandbox runs and its temporary directory is empty.
    pub(crate) fn wait_until_nothing_is_left(&self) {
        let left = || (self.processes(), fs::read_dir(self.temporary()).unwrap().map(|f| f.unwrap().path()).collect());
        let nothing: (Vec<u32>, Vec<PathBuf>) = Default::default();
        until(|| left() == nothing, || format!("left behind: {:?}", left()));
    }
}

/// Waits for what no event tells.
pub(crate) fn until(done: impl Fn() -> bool, what: impl Fn() -> String) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "{}", what());
        thread::sleep(LOOK);
    }
}

/// Sends a signal by its name.
pub(crate) fn signal(process: u32, name: &str) {
    let sent = Command::new("/bin/sh").arg("-c").arg(format!("kill -{name} {process}")).status().unwrap();
    assert!(sent.success(), "kill -{name} {process}: {sent}");
}

/// A process whose output is read. Killed when dropped.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    log: Arc<Mutex<Vec<u8>>>,
    logging: Option<JoinHandle<()>>,
}

/// What a process has left.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) lines: Vec<String>,
    pub(crate) log: String,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            // A kill may cut the last line.
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let log = Arc::new(Mutex::new(Vec::new()));
        let written = log.clone();
        let logging = thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(read @ 1..) = stderr.read(&mut part) {
                written.lock().unwrap().extend_from_slice(&part[..read]);
            }
        });
        Self { child, lines, seen: Vec::new(), log, logging: Some(logging) }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to its log by now.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.lock().unwrap()).into_owned()
    }

    /// The same once the process has ended.
    fn whole_log(&mut self) -> String {
        if let Some(logging) = self.logging.take() {
            logging.join().unwrap();
        }
        self.log()
    }

    /// Waits for a line; panics if the process ends without it.
    pub(crate) fn line(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        loop {
            match self.lines.recv_timeout(PATIENCE.saturating_sub(began.elapsed())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if wanted(&line) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("waited too long after {:#?}", self.seen),
                Err(RecvTimeoutError::Disconnected) => {
                    let log = self.whole_log();
                    panic!("ended without the line, after {:#?}: {log:?}", self.seen)
                }
            }
        }
    }

    /// Whether a line has come by now, of those that nobody has waited for.
    pub(crate) fn has_said(&mut self, wanted: impl Fn(&str) -> bool) -> bool {
        while let Ok(line) = self.lines.try_recv() {
            self.seen.push(line);
            if self.seen.last().is_some_and(|line| wanted(line)) {
                return true;
            }
        }
        false
    }

    /// Waits for a node's event.
    pub(crate) fn event(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        event(&self.line(|line| wanted(&event(line))))
    }

    /// Waits until no thread of the process runs: it sleeps at a failpoint, or waits for others.
    pub(crate) fn sleeps(&self) {
        let tasks = format!("/proc/{}/task", self.id());
        let asleep = || {
            let states = fs::read_dir(&tasks).unwrap().filter_map(|task| {
                let stat = fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
                stat.rsplit_once(')')?.1.trim_start().chars().next()
            });
            states.into_iter().all(|state| state == 'S')
        };
        // Threads also sleep for a moment when they wait for each other.
        until(
            || {
                (0..8).all(|_| {
                    thread::sleep(LOOK);
                    asleep()
                })
            },
            || "the process never sleeps".to_owned(),
        );
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// SIGKILL; gives what was written before.
    pub(crate) fn kill(mut self) -> Ended {
        self.child.kill().unwrap();
        self.wait()
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self) -> Ended {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(began.elapsed() < PATIENCE, "doesn't end, after {:#?}", self.seen);
            thread::sleep(LOOK);
        };
        let mut lines = std::mem::take(&mut self.seen);
        lines.extend(self.lines.iter());
        Ended { status, lines, log: self.whole_log() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Runs a process to its end.
    pub(crate) fn of(command: Command) -> Self {
        Running::start(command).wait()
    }

    /// Panics if it was no success.
    pub(crate) fn success(self) -> Self {
        assert!(self.status.success(), "{}: {}", self.status, self.log);
        self
    }

    pub(crate) fn text(&self) -> String {
        self.lines.join("\n")
    }

    /// The events of a node. A line that a kill has cut is left out.
    pub(crate) fn events(&self) -> Vec<Event> {
        let whole = |line: &&String| self.status.success() || line.ends_with('}');
        self.lines.iter().filter(whole).map(|line| event(line)).collect()
    }

    /// The only line of the error; panics if there is more, or less, or any result.
    pub(crate) fn error(&self) -> &str {
        assert!(!self.status.success(), "no error, but {}", self.text());
        let lines: Vec<&str> = self.log.lines().collect();
        let [line] = lines[..] else { panic!("not one line: {lines:#?}") };
        line.strip_prefix("error: ").unwrap_or_else(|| panic!("no error: {line}"))
    }
}

/// An event, which with its time is all that its line says.
pub(crate) fn event(line: &str) -> Event {
    timed(line).event
}

pub(crate) fn timed(line: &str) -> TimedEvent {
    let timed: TimedEvent = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let again = serde_json::to_value(&timed).unwrap();
    assert_eq!(again, serde_json::from_str::<Value>(line).unwrap(), "something is lost of {line}");
    timed
}
