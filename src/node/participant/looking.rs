//! Looking at the updates in the folder: which of those chosen are here, which are waited for, and which count.

use super::Participant;
use crate::{
    entries::Watch,
    folder::{FolderError, Value},
    node::{
        Event, NodeError, Rejection, Roster,
        complaints::Complaint,
        update::{Arrived, Listing},
        values::{LEAST_PATIENCE, PATIENCE, Verdict, Wait},
    },
    weights::{Root, SignedEntry},
};
use futures::stream::{FuturesUnordered, StreamExt};
use libp2p_identity::PeerId;
use std::{collections::BTreeSet, pin::pin, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout};

/// How often to list again because a value was replaced between listing and reading.
const LISTINGS: usize = 4;
/// Updates of authors who have given this node nothing yet that it looks for at one fold. Anybody makes a thousand such
/// authors in a moment, and to look whether a value has come takes longer than that.
const UNTRIED_AT_ONCE: usize = 32;
/// When a node that begins among many has enough: nothing more has come for so long.
const QUIET: Duration = Duration::from_secs(2);
/// How soon a node that has nothing yet looks for others of them.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// What a look at chosen updates has come to.
#[derive(Default)]
struct Look {
    /// Those that count, in the order of the choice.
    arrived: Vec<Option<Arrived>>,
    /// Those whose values are gone.
    gone: Vec<Arc<SignedEntry>>,
    /// The places of those whose values aren't here yet.
    late: Vec<usize>,
    /// How long it was waited for values that weren't here.
    waited: Duration,
    /// Whether not all could be looked for at once.
    crowded: bool,
}

impl Participant {
    /// Takes in the updates that `choose` picks from a listing, and returns them in the order of the choice: reads and
    /// checks each once, all side by side, and remembers the verdict. If an update was replaced in the meantime, it
    /// lists and chooses again. It also does so if one is found wanting, because its claim may have made others look
    /// stale. Forgets the values of all others.
    ///
    /// What has not come within [ten seconds](crate::node::values::PATIENCE) counts at the next look. Cancelling it loses
    /// nothing that has arrived.
    pub(in crate::node) async fn take_in(
        &mut self,
        choose: impl FnMut(&Listing, &Roster) -> Vec<Arc<SignedEntry>> + Send,
    ) -> Result<Vec<Arrived>, NodeError> {
        let (_, chosen, look) = self.look(choose, None).await?;
        self.taken(&chosen, look)
    }

    /// The same for a node that begins. Among more authors than it looks for at once there may be any number who give
    /// nothing, so it doesn't wait for all: it looks for a few at a time, and has enough when nothing more has come
    /// for two seconds.
    pub(in crate::node) async fn take_in_to_begin(
        &mut self,
        mut choose: impl FnMut(&Listing, &Roster) -> Vec<Arc<SignedEntry>> + Send,
    ) -> Result<Vec<Arrived>, NodeError> {
        let listing = self.list_updates().await?;
        if choose(&listing, &self.roster).len() <= UNTRIED_AT_ONCE {
            return self.take_in(choose).await;
        }
        self.patience.begins();
        let begun = self.take_in_among_many(choose).await;
        self.patience.has_begun();
        begun
    }

    async fn take_in_among_many(
        &mut self,
        mut choose: impl FnMut(&Listing, &Roster) -> Vec<Arc<SignedEntry>> + Send,
    ) -> Result<Vec<Arrived>, NodeError> {
        let fetched = self.values.fetched();
        let (deadline, mut enough, mut most) = (Instant::now() + PATIENCE, Instant::now() + QUIET, 0);
        loop {
            let mut came = pin!(fetched.notified());
            came.as_mut().enable();
            let mut wanted = 0;
            let counted = |listing: &Listing, roster: &Roster| {
                let chosen = choose(listing, roster);
                wanted = chosen.len();
                chosen
            };
            let (arrived, _) = self.take_in_briefly(counted, true).await?;
            if arrived.len() > most {
                (most, enough) = (arrived.len(), Instant::now() + QUIET);
            }
            let until = if most > 0 { enough.min(deadline) } else { deadline };
            if arrived.len() >= wanted || Instant::now() >= until || self.stop.is_requested() {
                return Ok(arrived);
            }
            tokio::select! {
                () = came => {}
                // What is here already may be of somebody who was not looked for.
                () = sleep(LOOK_AGAIN_AFTER) => {}
                () = self.stop.requested() => {}
            }
        }
    }

    /// The same for a node that needn't wait: what has not come as soon as its [patience](crate::node::patience::Patience) ends is fetched on
    /// in the background and counts at the next look. Until then the author's update before that one counts, if it is
    /// here, or once an older one that has come since; without `again` only what is newer than all that was folded of the
    /// author. With it, how many came too late.
    ///
    /// A node that never got anything looks again whenever a value or an entry comes, for as long as its patience allows
    /// that.
    pub(in crate::node) async fn take_in_briefly(
        &mut self,
        mut choose: impl FnMut(&Listing, &Roster) -> Vec<Arc<SignedEntry>> + Send,
        again: bool,
    ) -> Result<(Vec<Arrived>, usize), NodeError> {
        let (fetched, mut watch) = (self.values.fetched(), None::<Watch>);
        loop {
            let began = Instant::now();
            while watch.as_mut().and_then(Watch::try_next).is_some() {}
            let mut came = pin!(fetched.notified());
            // From here on, so that what comes during the look isn't missed.
            came.as_mut().enable();
            let (chosen, look) = self.look_briefly(&mut choose, again).await?;
            let late = look.late.iter().filter(|&&place| look.arrived[place].is_none()).count();
            let patience = self.patience.until_any();
            if late > 0 && look.arrived.iter().all(Option::is_none) && !patience.is_zero() {
                // Of peers with short epochs the update that is fetched may be replaced before it is here.
                let watch = watch.get_or_insert_with(|| self.folder.watch(""));
                let something = async {
                    tokio::select! {
                        () = came => {}
                        _ = watch.next() => {}
                        // What is here already may be of somebody who was not looked for.
                        () = sleep(LOOK_AGAIN_AFTER), if look.crowded => {}
                    }
                };
                let is_something = tokio::select! {
                    in_time = timeout(patience, something) => in_time.is_ok(),
                    () = self.stop.requested() => false,
                };
                self.patience.waited_for_any(began.elapsed());
                if is_something {
                    continue;
                }
            }
            for &place in &look.late {
                if !self.stop.is_requested() && self.patience.missed(chosen[place].key.author()) {
                    let reason = "it has come too late for this node's last folds, which wait less for its author now";
                    self.complaints.complain(&chosen[place], Complaint::OutOfReach, &reason);
                }
            }
            return Ok((self.taken(&chosen, look)?, late));
        }
    }

    async fn look_briefly(
        &mut self,
        choose: impl FnMut(&Listing, &Roster) -> Vec<Arc<SignedEntry>> + Send,
        again: bool,
    ) -> Result<(Vec<Arc<SignedEntry>>, Look), NodeError> {
        let (listing, chosen, mut look) = self.look(choose, Some(Instant::now())).await?;
        self.patience.waited(look.waited);
        let from = self.standpoint();
        let is_unfolded = |entry: &SignedEntry| self.roster.is_unfolded(entry.key.author(), entry.sequence);
        let before = |place: usize| {
            let author = chosen[place].key.author();
            let listed = listing.of(author).get(1).cloned().filter(|entry| again || is_unfolded(entry));
            // Once: it is old, and may be the only one for long.
            let overtaken = self.values.overtaken(&listing, author).filter(|entry| is_unfolded(entry));
            listed.into_iter().chain(overtaken).map(|entry| (place, entry)).collect::<Vec<_>>()
        };
        let is_fresh = |(_, entry): &(usize, Arc<SignedEntry>)| {
            let (author, epoch) = (entry.key.author(), entry.key.update_epoch());
            epoch.is_some_and(|epoch| self.roster.staleness(author, epoch, from) <= from.reach)
        };
        let (places, entries): (Vec<usize>, Vec<_>) =
            look.late.iter().flat_map(|&place| before(place)).filter(is_fresh).unzip();
        let here = entries.iter().map(|entry| self.patience.of(entry.key.author(), LEAST_PATIENCE));
        let waits: Vec<Wait> = here.map(|here| Wait { here, until: None }).collect();
        let found = self.arrive(&entries, &waits, true).await?;
        for (place, arrived) in places.into_iter().zip(found.arrived) {
            let number = |arrived: &Option<Arrived>| arrived.as_ref().map(|arrived| arrived.entry.sequence);
            if number(&arrived) > number(&look.arrived[place]) {
                look.arrived[place] = arrived;
            }
        }
        Ok((chosen, look))
    }

    /// Looks at the updates that `choose` picks until nothing that was chosen was replaced or found wanting. A look that
    /// is brief began at some moment; any other waits long.
    async fn look(
        &mut self,
        mut choose: impl FnMut(&Listing, &Roster) -> Vec<Arc<SignedEntry>> + Send,
        brief: Option<Instant>,
    ) -> Result<(Listing, Vec<Arc<SignedEntry>>, Look), NodeError> {
        let began = Instant::now();
        let (mut listing, mut chosen, mut look) = (Listing::default(), Vec::new(), Look::default());
        for _ in 0..LISTINGS {
            listing = self.list_updates().await?;
            chosen = choose(&listing, &self.roster);
            let crowded = brief.is_some() && self.look_for_few_untried(&mut chosen);
            let complaints: Vec<_> = chosen.iter().map(|entry| self.complaints.of(entry)).collect();
            let waits = chosen.iter().map(|entry| match brief {
                Some(began) => self.brief_wait(entry.key.author(), began),
                None => Wait::long(began),
            });
            let waits: Vec<Wait> = waits.collect();
            let before = look.waited;
            look = self.arrive(&chosen, &waits, brief.is_some()).await?;
            look.waited += before;
            look.crowded = crowded;
            let found_wanting =
                chosen.iter().zip(complaints).any(|(entry, before)| self.complaints.of(entry) != before);
            if look.gone.is_empty() && !found_wanting {
                break;
            }
        }
        self.values.retain(&listing, |author| self.arrived_of(author).map(|arrived| arrived.entry.sequence).max());
        Ok((listing, chosen, look))
    }

    /// Of the authors who have given nothing yet, leaves some in the choice, first those of whose values a part is here,
    /// and of the rest others at each look: whoever gives something is looked for from then on. Says whether there were
    /// more.
    fn look_for_few_untried(&mut self, chosen: &mut Vec<Arc<SignedEntry>>) -> bool {
        let is_untried = |entry: &Arc<SignedEntry>| !self.patience.knows_to_give(entry.key.author());
        let untried = chosen.iter().filter(|entry| is_untried(entry));
        let mut untried: Vec<(bool, PeerId)> =
            untried.map(|entry| (!self.folder.has_part(entry), entry.key.author())).collect();
        if untried.len() <= UNTRIED_AT_ONCE {
            return false;
        }
        let of_this_look = blake3::derive_key("peerfold 2026 draw of untried authors v1", &self.looks.to_le_bytes());
        let draw = |&(elsewhere, author): &(bool, PeerId)| {
            (elsewhere, *blake3::keyed_hash(&of_this_look, &author.to_bytes()).as_bytes())
        };
        untried.sort_by_cached_key(draw);
        let drawn: BTreeSet<PeerId> = untried.into_iter().take(UNTRIED_AT_ONCE).map(|(_, author)| author).collect();
        chosen.retain(|entry| !is_untried(entry) || drawn.contains(&entry.key.author()));
        self.looks += 1;
        true
    }

    fn brief_wait(&self, author: PeerId, began: Instant) -> Wait {
        let here = self.patience.of(author, LEAST_PATIENCE);
        Wait { here, until: Some(began + self.patience.with(author)) }
    }

    /// The updates that count. Forgets the values of all others.
    fn taken(&mut self, chosen: &[Arc<SignedEntry>], look: Look) -> Result<Vec<Arrived>, NodeError> {
        let taken: Vec<Arrived> = look.arrived.into_iter().flatten().collect();
        self.failures = (chosen.len() - taken.len()) as u64;
        // An entry may arrive before its value, for example on a share whose files arrive one by one. No watch reports
        // the value.
        for entry in look.gone {
            self.complaints.complain(&entry, Complaint::OutOfReach, &"its value is not there yet");
        }
        let kept: BTreeSet<_> =
            taken.iter().filter_map(|arrived| Some((arrived.author(), arrived.entry.root()?))).collect();
        self.arrived.retain(|key, _| kept.contains(key));
        Ok(taken)
    }

    /// Whether some current update in the folder could not be read at the last attempt. It may become readable, and
    /// nothing will report that.
    pub(in crate::node) fn has_unread(&self) -> bool {
        self.complaints.any_out_of_reach()
    }

    /// What becomes of the chosen updates. Each verdict is recorded as it comes, even while others are still waited for.
    /// Unless the look is brief, what is late is reported.
    async fn arrive(&mut self, chosen: &[Arc<SignedEntry>], waits: &[Wait], brief: bool) -> Result<Look, NodeError> {
        let mut look = Look { arrived: chosen.iter().map(|entry| self.have(entry)).collect(), ..Look::default() };
        let mut gone = BTreeSet::new();
        let mut fetches = FuturesUnordered::new();
        for (place, (entry, &wait)) in chosen.iter().zip(waits).enumerate() {
            let Some(metadata) = entry.metadata().filter(|_| look.arrived[place].is_none()) else { continue };
            if self.complaints.of(entry) == Some(Complaint::Rejected) {
                continue;
            }
            // The listing has left out peers' updates with such claims, but not the node's own from an earlier life.
            if let Err(rejection) = self.options.checks.claim(metadata.epoch, metadata.num_examples) {
                self.complaints.reject(entry, &rejection);
                continue;
            }
            let fetch = self.values.fetch_and_check(entry.clone(), wait);
            fetches.push(async move { (place, fetch.await) });
        }
        while let Some((place, fetched)) = fetches.next().await {
            let entry = &chosen[place];
            match fetched {
                Ok((verdict, waited)) => {
                    look.waited = look.waited.max(waited);
                    match verdict {
                        Verdict::Counts(value, norm) => look.arrived[place] = self.counts(entry, value, norm),
                        Verdict::Rejected(Rejection::OutOfReach(reason)) => {
                            self.complaints.complain(entry, Complaint::OutOfReach, &reason);
                        }
                        Verdict::Rejected(rejection) => self.complaints.reject(entry, &rejection),
                        Verdict::Late => {
                            look.late.push(place);
                            if !brief && !self.stop.is_requested() {
                                let reason = "it is still on its way";
                                self.complaints.complain(entry, Complaint::OutOfReach, &reason);
                            }
                        }
                    }
                }
                Err(NodeError::Folder(FolderError::Gone { .. })) => drop(gone.insert(place)),
                Err(error) => return Err(error),
            }
        }
        look.gone = gone.into_iter().map(|place| chosen[place].clone()).collect();
        Ok(look)
    }

    /// The author's updates that have arrived.
    fn arrived_of(&self, author: PeerId) -> impl Iterator<Item = &Arrived> {
        let roots = (author, Root::from_bytes([0; 32]))..=(author, Root::from_bytes([u8::MAX; 32]));
        self.arrived.range(roots).map(|(_, arrived)| arrived)
    }

    /// An update that has arrived before. The same weights may be there under a new number, with other claims.
    fn have(&self, entry: &SignedEntry) -> Option<Arrived> {
        let arrived = self.arrived.get(&(entry.key.author(), entry.root()?))?;
        (Some(&arrived.metadata) == entry.metadata()).then(|| arrived.clone())
    }

    /// Records and reports that an update's value has passed the checks.
    fn counts(&mut self, entry: &Arc<SignedEntry>, value: Arc<Value>, norm: f64) -> Option<Arrived> {
        let (root, metadata) = (entry.root()?, entry.metadata()?.clone());
        self.patience.came(entry.key.author());
        self.complaints.withdraw(entry);
        self.counted.received += 1;
        self.emit(&Event::Received {
            author: entry.key.author().to_string(),
            epoch: metadata.epoch,
            root: root.to_string(),
            bytes: self.layout.bytes(),
            num_examples: metadata.num_examples,
        });
        let arrived = Arrived { entry: entry.clone(), metadata, value, norm };
        self.arrived.insert((arrived.author(), root), arrived.clone());
        Some(arrived)
    }
}
