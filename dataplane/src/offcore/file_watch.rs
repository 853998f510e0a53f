//! Sees when files have been written and closed, or replaced, through any symbolic links on their way.
//!
//! In: inotify events of the directories that hold the files and the links that lead to them; of whole folders, where asked. Out:
//! whether anything changed and whether somebody is writing now.
//! Always holds: other files in those directories are no matter, unless the folder itself was asked for, where entries that come and
//! go count too; the events that are looked at are those the kernel had queued by then, so asking after a read tells whether the
//! read was disturbed; a link swapped anywhere on the way (as Kubernetes does with ConfigMaps, certbot with certificates) is a
//! change, and the new way is watched from then on.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Component, Path, PathBuf};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};

/// Links followed at most, as the kernel's own limit (path_resolution(7)).
const LINKS_MAX: usize = 40;
/// Room for at least 16 events with names of 255 bytes.
const BUFFER_BYTES: usize = 16 * (16 + 256);

/// What has happened to the files since one last looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Nothing.
    None,
    /// One was closed after writing, or replaced.
    Changed,
    /// One was written to and is not closed yet.
    BeingWritten,
}

/// What happens to files that count. The mask of a directory only ever grows, as several paths may lead to it.
const FILES: WatchMask = WatchMask::CLOSE_WRITE
    .union(WatchMask::MOVED_TO)
    .union(WatchMask::CREATE)
    .union(WatchMask::MODIFY)
    .union(WatchMask::ONLYDIR)
    .union(WatchMask::MASK_ADD);

/// What to watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchSet {
    /// What it is, for messages: `the policy file`.
    pub what: &'static str,
    /// Files, which need not exist yet.
    pub files: Vec<PathBuf>,
    /// Folders whose entries all count.
    pub folders: Vec<PathBuf>,
}

/// A watch on files. Its descriptor is readable when there are events to look at.
#[derive(Debug)]
pub struct FileWatch {
    inotify: Inotify,
    events: Events,
}

impl FileWatch {
    /// Watches what `set` names, none of which needs to exist yet.
    ///
    /// # Errors
    /// When the system grants no inotify instance.
    pub fn new(set: WatchSet) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let mut events = Events::default();
        events.watch(&inotify, set);
        Ok(Self { inotify, events })
    }

    /// What happened until now; asking again tells what happened since.
    pub fn take_activity(&mut self) -> Activity {
        let activity = self.peek_activity();
        if activity == Activity::Changed {
            self.events.changed = false;
        }
        activity
    }

    /// What happened until now, to be told again.
    pub fn peek_activity(&mut self) -> Activity {
        self.events.drain(&mut self.inotify);
        match (!self.events.being_written.is_empty(), self.events.changed) {
            (true, _) => Activity::BeingWritten,
            (false, true) => Activity::Changed,
            (false, false) => Activity::None,
        }
    }

    /// Follows the links anew and watches where they lead now, from here on for `set`.
    pub fn refresh(&mut self, set: WatchSet) {
        self.events.watch(&self.inotify, set);
    }
}

impl AsFd for FileWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// Which names count in which directory, and what happened to them.
#[derive(Debug, Default)]
struct Events {
    directories: HashMap<WatchDescriptor, Directory>,
    changed: bool,
    being_written: HashSet<(WatchDescriptor, OsString)>,
}

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    names: HashSet<OsString>,
    /// Every name counts, and that one goes as well.
    is_whole: bool,
}

impl Events {
    fn watch(&mut self, inotify: &Inotify, set: WatchSet) {
        let mut directories: HashMap<WatchDescriptor, Directory> = HashMap::new();
        let mut add = |directory: PathBuf, name: Option<OsString>| {
            let mask = if name.is_none() {
                FILES | WatchMask::DELETE | WatchMask::MOVED_FROM
            } else {
                FILES
            };
            match inotify.watches().add(&directory, mask) {
                Ok(watch) => {
                    let directory = directories.entry(watch).or_insert_with(|| Directory {
                        path: directory,
                        names: HashSet::new(),
                        is_whole: false,
                    });
                    directory.is_whole |= name.is_none();
                    directory.names.extend(name);
                }
                Err(error) => {
                    tracing::warn!(
                        %error,
                        directory = %directory.display(),
                        "cannot watch a directory of {}; send SIGHUP after a change. \
                         Raise fs.inotify.max_user_watches or let this user read the directory",
                        set.what
                    );
                }
            }
        };
        for (path, is_folder) in set
            .folders
            .iter()
            .map(|path| (path, true))
            .chain(set.files.iter().map(|path| (path, false)))
        {
            // A relative path means nothing once its directory is gone; nothing is there to be watched then.
            let Ok(path) = std::path::absolute(path) else { continue };
            waypoints(&path).into_iter().for_each(|(directory, name)| add(directory, Some(name)));
            if is_folder {
                add(path, None);
            }
        }
        for watch in self.directories.keys().filter(|watch| !directories.contains_key(watch)) {
            // It fails when the directory is gone, and the watch with it.
            let _ = inotify.watches().remove(watch.clone());
        }
        self.being_written.retain(|(watch, _)| directories.contains_key(watch));
        self.directories = directories;
    }

    fn drain(&mut self, inotify: &mut Inotify) {
        let mut buffer = [0; BUFFER_BYTES];
        loop {
            match inotify.read_events(&mut buffer) {
                Ok(events) => {
                    for event in events {
                        self.note(&event.wd, event.mask, event.name);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // WouldBlock: the queue is empty. Anything else shows again when it is waited for.
                Err(_) => return,
            }
        }
    }

    fn note(&mut self, watch: &WatchDescriptor, mask: EventMask, name: Option<&OsStr>) {
        if mask.contains(EventMask::Q_OVERFLOW) {
            // What was lost may have been the one that counts.
            self.changed = true;
            self.being_written.clear();
            return;
        }
        let (Some(directory), Some(name)) = (self.directories.get(watch), name) else { return };
        if !directory.is_whole && !directory.names.contains(name) {
            return;
        }
        if mask.contains(EventMask::MODIFY) {
            // In a whole folder somebody may write a log that is never closed.
            if directory.names.contains(name) {
                self.being_written.insert((watch.clone(), name.to_owned()));
            }
        } else if mask.contains(EventMask::CREATE) {
            // A new file is empty until its writer closes it; a new link and a new folder are complete.
            let is_complete = || directory.path.join(name).is_symlink();
            self.changed |= mask.contains(EventMask::ISDIR) || is_complete();
        } else {
            self.being_written.remove(&(watch.clone(), name.to_owned()));
            let is_there = mask.intersects(EventMask::CLOSE_WRITE | EventMask::MOVED_TO);
            self.changed |= is_there || directory.is_whole;
        }
    }
}

/// The directory and name of each symbolic link on the way to `path`, and of the file at its end.
fn waypoints(path: &Path) -> Vec<(PathBuf, OsString)> {
    let mut waypoints = Vec::new();
    let mut here = PathBuf::from("/");
    let mut ahead: VecDeque<OsString> = components(path);
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            here.pop();
            continue;
        }
        let next = here.join(&name);
        match next.read_link() {
            Ok(target) if links < LINKS_MAX => {
                links += 1;
                waypoints.push((here.clone(), name));
                if target.is_absolute() {
                    here = PathBuf::from("/");
                }
                let mut way = components(&target);
                way.append(&mut ahead);
                ahead = way;
            }
            _ => {
                if ahead.is_empty() || !next.exists() {
                    waypoints.push((here, name));
                    return waypoints;
                }
                here = next;
            }
        }
    }
    waypoints
}

fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
        })
        .collect()
}

#[cfg(test)]
#[path = "file_watch_tests.rs"]
mod tests;
