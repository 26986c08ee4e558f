//! `peerfold members`: the list of those who may take part, which an administrator signs at one place and all follow.

use super::{
    flags::{AdminFlags, WayFlags},
    folder::{Opened, Place, people},
    layers::{resolve, values},
    settings::{NodeIdentity, default_home, missing, read, wrong},
    source::Given,
};
use crate::{
    entries::{MemberList, Membership, SignedList},
    home::Home,
    node::{ListChange, ListFile, ListTold, TrustSettings},
    program::print,
    weights::{FederationId, Key, Metadata, SignedEntry, Weights, read_all},
};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use libp2p_identity::PeerId;
use std::{
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::runtime::Builder;

/// How long to wait for the node that runs on the home.
const NODE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long a list waits to be written where there is nobody who has to know it.
const WRITTEN: Duration = Duration::from_secs(60);

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct MembersFlags {
    #[command(subcommand)]
    change: Option<Change>,
    #[command(flatten)]
    at: At,
}

#[derive(Subcommand)]
enum Change {
    /// Let a site take part, or give it another name: signs a new list and publishes it at once.
    Add {
        /// Its peer id, which `peerfold id` prints there.
        #[arg(value_parser = peer_id)]
        peer: PeerId,
        /// What people call it.
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        at: At,
    },
    /// Put a site out: signs a new list and publishes it at once. Nodes close its connections and fold nothing more of it.
    Revoke {
        /// Its peer id, or its name in the list.
        site: String,
        #[command(flatten)]
        at: At,
    },
}

fn peer_id(text: &str) -> Result<PeerId, &'static str> {
    text.parse().map_err(|_| "it is no peer id, which `peerfold id` prints at the site")
}

#[derive(Args)]
struct At {
    #[command(flatten)]
    flags: AdminFlags,
    /// The configuration of the administrator's node, or of any other for looking at its list.
    #[arg(long, env = "PEERFOLD_CONFIG", value_name = "FILE.toml")]
    config: Option<PathBuf>,
}

/// A list and where it is kept.
struct Desk {
    settings: Given,
    home: PathBuf,
    run_dir: PathBuf,
    federation: String,
    run: String,
    id: FederationId,
}

impl Desk {
    fn open(at: &At) -> anyhow::Result<Self> {
        let settings = resolve(&at.flags.0, at.config.as_deref())?;
        let NodeIdentity { federation, run, home, .. } = read(&values(&settings))?;
        let federation = federation.filter(|name| !name.is_empty()).ok_or_else(|| missing("federation"))?;
        let home = home.map_or_else(default_home, Ok)?;
        Home::check_exists(&home)?;
        let id = FederationId::new(&federation, &run);
        let run_dir = Home::run_path(&home, &id);
        Ok(Self { settings, home, run_dir, federation, run, id })
    }

    /// The administrator, who has to be this home's node.
    fn admin(&self) -> anyhow::Result<PeerId> {
        let me = Home::peer_id(&self.home)?;
        match read::<TrustSettings>(&values(&self.settings))?.admin {
            Some(admin) if admin != me => {
                let what = format!("the home {} is {me}, and only the administrator signs", self.home.display());
                Err(wrong("admin", admin, what).into())
            }
            _ => Ok(me),
        }
    }
}

pub(super) fn run(flags: &MembersFlags) -> anyhow::Result<()> {
    match &flags.change {
        None => {
            let desk = Desk::open(&flags.at)?;
            let list = ListFile::read_any(&desk.run_dir, desk.id)?;
            let list = list.with_context(|| {
                format!("the home {} has no list of federation '{}' yet", desk.home.display(), desk.federation)
            })?;
            print(&text(&list))
        }
        Some(Change::Add { peer, name, at }) => {
            let name = name.as_deref();
            publish(&Desk::open(at)?, |list| {
                Ok(list.with(*peer, name).map_err(|mistake| wrong("name", name.unwrap_or_default(), mistake.what))?)
            })
        }
        Some(Change::Revoke { site, at }) => publish(&Desk::open(at)?, |list| Ok(list.without(&site_of(list, site)?))),
    }
}

/// The member that is meant. A peer id that isn't in the list will do: it is out, and that is told again.
fn site_of(list: &MemberList, site: &str) -> anyhow::Result<PeerId> {
    if let Ok(peer) = site.parse() {
        return Ok(peer);
    }
    let named: Vec<PeerId> = list.peers().filter(|peer| list.name(peer) == Some(site)).collect();
    match named.as_slice() {
        [peer] => Ok(*peer),
        [] => bail!("nobody in the list is called {site:?}; `peerfold members` shows it"),
        several => bail!("{} members are called {site:?}; give the peer id", several.len()),
    }
}

fn text(list: &SignedList) -> String {
    let members = list.list().len();
    let what = if members == 1 { "member" } else { "members" };
    let mut text = format!("list {}, signed by {}: {members} {what} besides it\n", list.number(), list.signer());
    text += &list.list().text();
    text
}

/// Signs the changed list and publishes it: by the node that runs on the home, or from here. An error unless somebody
/// else can get it now.
fn publish(desk: &Desk, change: impl Fn(&MemberList) -> anyhow::Result<MemberList>) -> anyhow::Result<()> {
    let file = ListFile::new(&desk.run_dir, desk.id, desk.admin()?);
    let known = file.read()?;
    // The administrator is a member without being in the list.
    let changed = |list: Option<&SignedList>| -> anyhow::Result<MemberList> {
        let none = MemberList::default();
        Ok(change(list.map_or(&none, SignedList::list))?.without(&file.admin()))
    };
    let (others, told) = if Home::is_in_use(&desk.home) {
        let wanted = changed(known.as_ref())?;
        let after = known.as_ref().map_or(0, SignedList::number);
        (wanted.len(), by_node(desk, &ListChange { after, list: wanted.text() }, file.admin())?)
    } else {
        Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?
            .block_on(from_here(desk, &file, known, &changed))?
    };
    if let Some(trouble) = &told.trouble {
        bail!("{trouble}");
    }
    let list = file.read()?.context("the list that was just signed is gone again")?;
    print(&text(&list))?;
    if !told.is_told(others) {
        bail!(
            "list {} is signed, and nobody in federation '{}' knows it yet: whoever runs goes on by the list before. The \
             administrator's node tells it, and so does the same command, with the peer id, when somebody can be reached",
            told.number,
            desk.federation
        );
    }
    let places = [
        told.known_by.map(|peers| format!("{} it", people(peers, "knows", "know"))),
        told.bucket
            .map(|there| if there { "it is in the bucket" } else { "the bucket doesn't have it yet" }.to_owned()),
    ];
    let places: Vec<String> = places.into_iter().flatten().collect();
    eprintln!("{}", if places.is_empty() { "it is in the folder".to_owned() } else { places.join("; ") });
    Ok(())
}

/// Has the running node publish it.
fn by_node(desk: &Desk, change: &ListChange, admin: PeerId) -> anyhow::Result<ListTold> {
    if !desk.run_dir.is_dir() {
        bail!("the node that runs on the home {} is not in federation '{}'", desk.home.display(), desk.federation);
    }
    change.ask(&desk.run_dir)?;
    let until = Instant::now() + NODE;
    while Instant::now() < until {
        if let Some(told) = ListChange::answer(&desk.run_dir)? {
            return Ok(told);
        }
        thread::sleep(LOOK_EVERY);
    }
    ListChange::withdraw(&desk.run_dir)?;
    bail!(
        "the node that runs on the home {} didn't answer: it signs lists of federation '{}', run '{}', only if it runs with \
         --admin {admin}",
        desk.home.display(),
        desk.federation,
        desk.run
    )
}

/// Publishes it from this program.
async fn from_here(
    desk: &Desk,
    file: &ListFile,
    known: Option<SignedList>,
    changed: &impl Fn(Option<&SignedList>) -> anyhow::Result<MemberList>,
) -> anyhow::Result<(usize, ListTold)> {
    // Mistakes first. Whoever is in the list or comes into it may connect.
    let admitted = changed(known.as_ref())?.with(file.admin(), None)?;
    let membership = Arc::new(Membership::listed(admitted));
    // What nobody waits for any more.
    ListChange::withdraw(&desk.run_dir)?;
    let NodeIdentity { folder, .. } = read(&values(&desk.settings))?;
    let place = Place {
        url: folder.to_string(),
        federation: desk.federation.clone(),
        run: desk.run.clone(),
        ways: WayFlags(desk.settings.clone()),
    };
    let opened = tokio::task::block_in_place(|| place.open_in(&desk.home, &membership))?;
    let around = opened.look_around().await?;
    let newest = newest(&opened, file.admin(), known).await?;
    let wanted = changed(newest.as_ref())?;
    membership.replace(wanted.with(file.admin(), None)?);
    let text = wanted.text().into_bytes();
    SignedList::check_length(text.len() as u64)?;
    let value = Weights::artifact(text.clone())?;
    let entry = opened.folder.put(&Key::members(file.admin()), &value, Metadata::default()).await?;
    let list = SignedList::new(SignedEntry::clone(&entry), &text)?;
    file.write(&list)?;
    let number = list.number();
    let told = if wanted.is_empty() {
        let bucket = opened.folder.hand_over(WRITTEN).await.bucket;
        ListTold { number, bucket, ..ListTold::default() }
    } else {
        let known_by = opened.hand_over(&format!("knows list {number} of members"), around).await?;
        let bucket = opened.folder.routes().map(|routes| routes.borrow().bucket);
        ListTold { number, known_by: known_by.map(|network| network.knowing), bucket, trouble: None }
    };
    Ok((wanted.len(), told))
}

/// The newest list that there is: the folder may have one that this home has lost.
async fn newest(opened: &Opened, admin: PeerId, known: Option<SignedList>) -> anyhow::Result<Option<SignedList>> {
    let key = Key::members(admin);
    let entries = opened.folder.list(&key.to_string()).await?;
    let newer = |entry: &&Arc<SignedEntry>| {
        entry.key == key && entry.root().is_some() && known.as_ref().is_none_or(|list| list.number() < entry.sequence)
    };
    let Some(entry) = entries.iter().find(newer) else { return Ok(known) };
    let value = opened.folder.get(entry).await?;
    let text = read_all(&value)?;
    let text = text.artifact_bytes().with_context(|| format!("{key} is no list of members"))?;
    Ok(Some(SignedList::new(SignedEntry::clone(entry), text)?))
}
