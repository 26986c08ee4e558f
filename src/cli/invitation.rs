//! `peerfold invite` and `peerfold join`: what the sites of a federation must have in common, as one text to paste.
//!
//! ```text
//! peerfold-join-1- and, as `pasted` writes it: postcard of the secret, if there is one, and of the settings as TOML,
//! followed by the administrator's newest list of members, if there is one
//! ```
//!
//! Only [`SHARED`] settings go into it, and only those are taken from it: whoever sends one chooses no path and no
//! program of the site that joins.

use super::{
    flags::{InvitedFlags, SHARED},
    layers::{resolve, values},
    node::{network_of, secret_of},
    settings::{NodeIdentity, SettingsError, default_home, missing, node_settings, read},
    source::{Given, Source},
};
use crate::{
    durable_file,
    entries::{SignedList, SignedListError},
    folder::FolderUrl,
    home::Home,
    node::{ListFile, TrustSettings},
    pasted::{self, PasteError},
    printable::printable,
    program::print,
    secret::Secret,
    settings::{Form, Item, Values, Written},
    weights::FederationId,
};
use anyhow::{Context, bail};
use clap::{Args, ValueHint};
use libp2p_identity::PeerId;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead, Read},
    path::{Path, PathBuf},
};

/// How each begins; the version's number and a hyphen follow.
const TITLE: &str = "peerfold-join-";
const VERSION: &str = "1";
/// More than any invitation has.
const MAX_BYTES: u64 = 160 << 10;
/// Longest settings that fit in together with a list.
const MAX_SETTINGS: usize = 12 << 10;
/// Characters of a line: a terminal gives a program no longer ones than 4095.
const LINE: usize = 2000;
/// The configuration in the home of a site that joins.
const CONFIG: &str = "node.toml";
/// The secret in it.
const SECRET: &str = "federation.secret";

#[derive(Args)]
pub(super) struct InviteFlags {
    #[command(flatten)]
    shared: InvitedFlags,
    /// The configuration of one of its nodes; what concerns that site alone is left out.
    #[arg(long, env = "PEERFOLD_CONFIG", value_name = "FILE.toml")]
    config: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct JoinFlags {
    /// What `peerfold invite` printed. Without it, it is read from standard input, where no list of processes and no
    /// shell's history shows it.
    invitation: Option<String>,
    /// The node's own directory, which is made if it isn't there. [default: ~/.peerfold]
    #[arg(long, env = "PEERFOLD_HOME", value_name = "DIR", value_hint = ValueHint::DirPath)]
    home: Option<PathBuf>,
}

/// What is wrong with an invitation.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvitationError {
    #[error("that is no invitation: one begins with {TITLE}, and `peerfold invite` prints it")]
    NotOne,
    #[error("the invitation has version {version}, of a newer peerfold than this: update this one")]
    Newer { version: String },
    #[error("the invitation can't be read: {0}")]
    Paste(#[from] PasteError),
    #[error("the invitation can't be read: what is in it is not what an invitation has")]
    Content,
    #[error("the invitation's list of members can't be used: {0}")]
    List(SignedListError),
    #[error("the invitation's list of members is signed by {signer}, who is not the administrator that it names")]
    Signer { signer: PeerId },
    #[error("the invitation sets {key}, which this peerfold doesn't take from one: update it, or ask who invites you")]
    Setting { key: String },
    #[error("the invitation sets {key} to what it can't be: {what}")]
    Value { key: String, what: String },
}

/// What is in an invitation.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Invitation {
    pub(super) secret: Option<[u8; 32]>,
    /// The settings that all have in common, as TOML.
    pub(super) settings: String,
    /// The newest list of members, as [`SignedList::bytes`]: a site that joins must know whom to admit before it can hear
    /// of a newer one. Follows the rest, and is empty if there is none.
    #[serde(skip)]
    pub(super) members: Vec<u8>,
}

impl Invitation {
    pub(super) fn text(&self) -> String {
        let mut content = postcard::to_stdvec(self).expect("writing to memory, and all lengths are known");
        content.extend(&self.members);
        format!("{TITLE}{VERSION}-{}", pasted::written(&content))
    }

    pub(super) fn read(text: &str) -> Result<Self, InvitationError> {
        let text: String = text.chars().filter(|character| !character.is_whitespace()).collect();
        let rest = text.strip_prefix(TITLE).ok_or(InvitationError::NotOne)?;
        let (version, rest) = rest.split_once('-').unwrap_or((rest, ""));
        if version != VERSION {
            let is_number = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
            let version = version.chars().take(10).collect();
            return Err(if is_number { InvitationError::Newer { version } } else { InvitationError::NotOne });
        }
        match postcard::take_from_bytes::<Self>(&pasted::read(rest)?) {
            Ok((invitation, members)) => Ok(Self { members: members.to_vec(), ..invitation }),
            Err(_) => Err(InvitationError::Content),
        }
    }

    /// The list of members, checked: signed by the administrator that the settings name, for their federation.
    fn list(&self, settings: &Values) -> anyhow::Result<Option<SignedList>> {
        if self.members.is_empty() {
            return Ok(None);
        }
        let NodeIdentity { federation, run, .. } = read(settings)?;
        let federation = FederationId::new(&federation.unwrap_or_default(), &run);
        let list = SignedList::read(&self.members, federation).map_err(InvitationError::List)?;
        if read::<TrustSettings>(settings)?.admin != Some(list.signer()) {
            return Err(InvitationError::Signer { signer: list.signer() }.into());
        }
        Ok(Some(list))
    }

    /// The settings, checked: those that an invitation may have.
    pub(super) fn values(&self) -> Result<Values, InvitationError> {
        let table: BTreeMap<String, toml::Value> =
            toml::from_str(&self.settings).map_err(|_| InvitationError::Content)?;
        let (fields, mut values) = (node_settings(), Values::new());
        for (key, value) in table {
            let field = fields.iter().find(|field| field.key == key && SHARED.contains(&field.key));
            let Some(field) = field else {
                return Err(InvitationError::Setting { key: printable(&key).into_owned() });
            };
            let wrong = |what| InvitationError::Value { key: key.clone(), what };
            let value = field.form.read_toml(value).map_err(wrong)?;
            field.check(&value).map_err(|mistake| wrong(mistake.what))?;
            if let (Form::Files, Written::List(texts)) = (field.form, &value)
                && let Some(text) = texts.iter().find(|text| !text.starts_with('/') || Path::new(text).exists())
            {
                // It would be read as a list of peers on this machine.
                return Err(wrong(format!("{} is no address", printable(text))));
            }
            if is_of_this_machine(&key, &value) {
                return Err(wrong("a folder of one machine, which an invitation chooses for nobody".to_owned()));
            }
            values.insert(key, value);
        }
        Ok(values)
    }
}

/// Whether the setting names a folder that lies on whichever machine reads it.
fn is_of_this_machine(key: &str, value: &Written) -> bool {
    let Written::Text(url) = value else { return false };
    matches!(key, "folder" | "fallback")
        && url.parse().is_ok_and(|folder| matches!(folder, FolderUrl::Local(_) | FolderUrl::Memory))
}

fn toml_of(values: &Values) -> String {
    values.iter().map(|(key, value)| format!("{key} = {}\n", value.to_toml())).collect()
}

/// What of a node's settings is the same for all: what somebody has set, and how many a synchronous federation has.
fn shared(settings: &Given) -> Result<Values, SettingsError> {
    let all = values(settings);
    let is_sync = all.get("sync") == Some(&Written::Switch(true));
    let is_shared = |key: &str, source: &Source| {
        SHARED.contains(&key) && (*source != Source::Default || is_sync && matches!(key, "nodes" | "quorum"))
    };
    let mut shared: Values = settings
        .iter()
        .filter(|(key, setting)| is_shared(key, &setting.source))
        .map(|(key, setting)| (key.clone(), setting.value.clone()))
        .collect();
    // Lists in files are on this machine.
    let folder = read::<NodeIdentity>(&all)?.folder;
    let peers: Vec<String> = network_of(&all, &folder)?.bootstrap.iter().map(Item::write).collect();
    if peers.is_empty() {
        shared.remove("bootstrap");
    } else {
        shared.insert("bootstrap".to_owned(), Written::List(peers));
    }
    Ok(shared)
}

/// Prints an invitation.
pub(super) fn invite(flags: &InviteFlags) -> anyhow::Result<()> {
    let settings = resolve(&flags.shared.0, flags.config.as_deref())?;
    let all = values(&settings);
    let NodeIdentity { federation, run, folder, home } = read(&all)?;
    let federation = federation.filter(|name| !name.is_empty()).ok_or_else(|| missing("federation"))?;
    let secret = secret_of(&all, &folder)?;
    let shared = shared(&settings)?;
    if let Some((key, _)) = shared.iter().find(|(key, value)| is_of_this_machine(key, value)) {
        bail!(
            "--{key} names a folder of this machine, and an invitation none that isn't everybody's: give the sites their \
             settings by hand, or let them meet by p2p: or in a bucket"
        );
    }
    if folder == FolderUrl::P2p && secret.is_some() && !shared.contains_key("bootstrap") {
        // With a secret the local network isn't searched.
        return Err(missing("bootstrap").into());
    }
    let settings = toml_of(&shared);
    if settings.len() > MAX_SETTINGS {
        bail!(
            "the settings that all have in common have {} bytes, and an invitation at most {MAX_SETTINGS}",
            settings.len()
        );
    }
    let admin = read::<TrustSettings>(&all)?.admin;
    let members = match (admin, home) {
        (Some(admin), Some(home)) => {
            let id = FederationId::new(&federation, &run);
            ListFile::new(&Home::run_path(&home, &id), id, admin).read()?
        }
        _ => None,
    };
    let invitation = Invitation {
        secret: secret.as_ref().map(|secret| *secret.as_bytes()),
        settings,
        members: members.as_ref().map(SignedList::bytes).unwrap_or_default(),
    };
    print(&lines(&invitation.text()))?;
    let keys: Vec<&str> = shared.keys().map(String::as_str).collect();
    eprintln!("it sets {}", keys.join(", "));
    match (&members, admin) {
        (Some(list), _) => eprintln!("it has list {} of members", list.number()),
        (None, Some(admin)) => eprintln!(
            "it has no list of members, as there is none of {admin} in this home: who joins connects with the administrator \
             alone, until it gets the newest list"
        ),
        (None, None) => {}
    }
    match secret {
        Some(secret) => eprintln!(
            "it contains the federation's secret ({}): whoever reads it can join and read everything, so send it by a way \
             on which nobody else does",
            secret.fingerprint()
        ),
        None if admin.is_some() => {
            eprintln!("there is no secret in it: whoever reads it can look for the federation (see --secret)")
        }
        None => eprintln!("there is no secret in it: whoever knows the federation's name can join (see --secret)"),
    }
    Ok(())
}

/// An invitation as it is printed: in one line, or in several if it is long.
fn lines(text: &str) -> String {
    let parts = text.as_bytes().chunks(LINE).map(|part| String::from_utf8_lossy(part) + "\n");
    parts.collect()
}

/// Reads lines until they are a whole invitation.
fn pasted_at(input: impl Read) -> anyhow::Result<Invitation> {
    let mut input = io::BufReader::new(input.take(MAX_BYTES));
    let mut text = String::new();
    loop {
        let more = input.read_line(&mut text).context("reading the invitation from standard input")?;
        match Invitation::read(&text) {
            // There may be more lines of it.
            Err(InvitationError::Paste(PasteError::Cut { .. })) if more > 0 => {}
            Err(InvitationError::NotOne | InvitationError::Newer { .. }) if more > 0 && text.trim().len() < 20 => {}
            read => return Ok(read?),
        }
    }
}

/// Writes the configuration of a site that joins, and the secret.
pub(super) fn join(flags: &JoinFlags) -> anyhow::Result<()> {
    let invitation = match flags.invitation.as_deref() {
        Some(text) if text != "-" => Invitation::read(text)?,
        _ => pasted_at(io::stdin().lock())?,
    };
    let mut values = invitation.values()?;
    let NodeIdentity { federation, run, .. } = read(&values)?;
    let federation = federation.ok_or(InvitationError::Content)?;
    let list = invitation.list(&values)?;
    let home = flags.home.clone().map_or_else(default_home, Ok)?;
    let home = std::path::absolute(&home).with_context(|| format!("--home {}", home.display()))?;
    let text = |path: &Path| match path.to_str() {
        Some(text) => Ok(Written::Text(text.to_owned())),
        None => bail!("--home {}: its name is not UTF-8, which the configuration must be", path.display()),
    };
    let (config, secret) = (home.join(CONFIG), home.join(SECRET));
    values.insert("home".to_owned(), text(&home)?);
    if invitation.secret.is_some() {
        values.insert("secret".to_owned(), text(&secret)?);
    }
    let content = format!(
        "# Made by `peerfold join`: what the sites of this federation have in common. Add what is this site's own.\n{}",
        toml_of(&values)
    );
    check_free(&config, &content)?;
    let peer = Home::peer_id(&home)?;
    let members = list.map(|list| keep_list(&home, &federation, &run, &list)).transpose()?;
    if let Some(bytes) = invitation.secret {
        Secret::from_bytes(bytes).write_new(&secret)?;
    }
    match durable_file::create(&config, true, |file| file.write_all(content.as_bytes())) {
        // The same, by what was checked above.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check_free(&config, &content)?,
        written => written.with_context(|| format!("{} can't be written", config.display()))?,
    }
    let mut told =
        format!("this site is {peer} in federation {federation:?}, run {run:?}\nwrote {}\n", config.display());
    if invitation.secret.is_some() {
        told += &format!("wrote {}: keep it to yourself, as the invitation\n", secret.display());
    }
    if let Some(number) = members {
        told += &format!("it admits by list {number} of members, and follows newer ones\n");
    }
    told += &format!("start its node with: peerfold node --config {}\n", quoted(&config));
    print(&told)
}

/// Keeps the invitation's list in the home, unless a newer one is there. Gives the number of the one that counts.
fn keep_list(home: &Path, federation: &str, run: &str, list: &SignedList) -> anyhow::Result<u64> {
    let id = FederationId::new(federation, run);
    let file = ListFile::new(&Home::run_path(home, &id), id, list.signer());
    let newer = file.read()?.map(|kept| kept.number()).filter(|&kept| kept >= list.number());
    if newer.is_none() {
        file.write(list)?;
    }
    Ok(newer.unwrap_or(list.number()))
}

/// Errors if the file is there with something else in it.
fn check_free(path: &Path, content: &str) -> anyhow::Result<()> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("{} can't be read", path.display())),
        Ok(found) if found == content.as_bytes() => Ok(()),
        Ok(_) => bail!(
            "{} is there already and is left as it is: move it away, or give this federation another --home",
            path.display()
        ),
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '+' | ':' | '@');
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn invitation(settings: &str) -> Invitation {
        Invitation { secret: Some([5; 32]), settings: settings.to_owned(), members: Vec::new() }
    }

    #[test]
    fn an_invitation_is_read_as_it_was_written_or_says_what_is_wrong() {
        let whole = invitation("federation = \"ward\"\nlr = 0.01\n");
        let text = whole.text();
        assert_eq!(Invitation::read(&text).unwrap(), whole);
        let long = Invitation { members: vec![7; 50 << 10], ..invitation("federation = \"ward\"\n") };
        assert_eq!(pasted_at(lines(&long.text()).as_bytes()).unwrap(), long);
        assert!(long.list(&long.values().unwrap()).unwrap_err().to_string().contains("list of members can't be used"));
        let lines: Vec<&str> = text.as_bytes().chunks(40).map(|line| std::str::from_utf8(line).unwrap()).collect();
        assert_eq!(pasted_at(lines.join("\n").as_bytes()).unwrap(), whole);
        assert_eq!(pasted_at(format!("\n{}\n\nmore", lines.join("  \r\n")).as_bytes()).unwrap(), whole);
        for (text, part) in [
            (text[..text.len() - 3].to_owned(), "cut short"),
            (text[..20].to_owned(), "cut short"),
            (text.replace("-1-", "-2-"), "newer peerfold"),
            ("12D3KooW".to_owned(), "no invitation"),
            (format!("{TITLE}1-{}", pasted::written(b"x")), "not what an invitation has"),
        ] {
            let error = Invitation::read(&text).unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains('\n'), "{text}: {error}");
            assert!(pasted_at(text.as_bytes()).unwrap_err().to_string().contains(part), "{text}");
        }
    }

    #[test]
    fn whoever_invites_sets_only_what_all_have_in_common() {
        let values = invitation("federation = \"ward\"\nlr = 0.01\nparam = [\"a=1\"]").values().unwrap();
        assert_eq!(values["lr"], Written::Number(0.01));
        invitation("folder = \"s3://bucket/prefix\"").values().unwrap();
        for (settings, part) in [
            ("out = \"/etc/passwd\"", "out"),
            ("home = \"/\"", "home"),
            ("unheard-of = 1", "unheard-of"),
            ("lr = \"fast\"", "lr"),
            ("bootstrap = [\"/etc/passwd\"]", "/etc/passwd"),
            ("bootstrap = [\"peers.txt\"]", "peers.txt"),
            ("folder = \"file:///etc\"", "folder"),
            ("folder = \"memory:\"", "folder"),
            ("fallback = \"file:///etc\"", "fallback"),
            ("x", "not what an invitation has"),
        ] {
            let error = invitation(settings).values().unwrap_err().to_string();
            assert!(error.contains(part), "{settings}: {error}");
        }
    }
}
