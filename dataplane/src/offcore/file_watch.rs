//! Sees when one file has been written and closed, or replaced, through any symbolic links on its way.
//!
//! In: inotify events of the directories that hold the file and the links that lead to it. Out: whether it changed
//! and whether somebody is writing it now.
//! Always holds: other files in those directories are no matter; the events that are looked at are those the kernel
//! had queued by then, so asking after a read tells whether the read was disturbed; a link swapped anywhere on the
//! way (as Kubernetes does with ConfigMaps) is a change, and the new way is watched from then on.

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

/// What has happened to the file since one last looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Nothing.
    None,
    /// It was closed after writing, or replaced.
    Changed,
    /// It was written to and is not closed yet.
    BeingWritten,
}

/// What to watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchSet {
    /// Files, which need not exist yet.
    pub files: Vec<PathBuf>,
    /// Folders whose entries all count.
    pub folders: Vec<PathBuf>,
}

/// A watch on one file. Its descriptor is readable when there are events to look at.
#[derive(Debug)]
pub struct FileWatch {
    inotify: Inotify,
    events: Events,
}

impl FileWatch {
    /// Watches `path`, which need not exist yet.
    ///
    /// # Errors
    /// When the system grants no inotify instance.
    pub fn new(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let mut events = Events {
            path: std::path::absolute(path)?,
            names: HashMap::new(),
            changed: false,
            being_written: false,
        };
        events.refresh(&inotify);
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
        match (self.events.being_written, self.events.changed) {
            (true, _) => Activity::BeingWritten,
            (false, true) => Activity::Changed,
            (false, false) => Activity::None,
        }
    }

    /// Follows the links anew and watches where they lead now.
    pub fn refresh(&mut self) {
        self.events.refresh(&self.inotify);
    }
}

impl AsFd for FileWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// Which names count in which directory, and what happened to them.
#[derive(Debug)]
struct Events {
    path: PathBuf,
    names: HashMap<WatchDescriptor, (PathBuf, HashSet<OsString>)>,
    changed: bool,
    being_written: bool,
}

impl Events {
    fn refresh(&mut self, inotify: &Inotify) {
        let mut names: HashMap<WatchDescriptor, (PathBuf, HashSet<OsString>)> = HashMap::new();
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::MOVED_TO
            | WatchMask::CREATE
            | WatchMask::MODIFY
            | WatchMask::ONLYDIR;
        for (directory, name) in waypoints(&self.path) {
            match inotify.watches().add(&directory, mask) {
                Ok(watch) => {
                    names
                        .entry(watch)
                        .or_insert_with(|| (directory, HashSet::new()))
                        .1
                        .insert(name);
                }
                Err(error) => {
                    tracing::warn!(
                        %error,
                        directory = %directory.display(),
                        "cannot watch a directory of the policy file; send SIGHUP after a change. \
                         Raise fs.inotify.max_user_watches or let this user read the directory"
                    );
                }
            }
        }
        for watch in self.names.keys().filter(|watch| !names.contains_key(watch)) {
            // It fails when the directory is gone, and the watch with it.
            let _ = inotify.watches().remove(watch.clone());
        }
        self.names = names;
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
            self.being_written = false;
            return;
        }
        let (Some((directory, names)), Some(name)) = (self.names.get(watch), name) else { return };
        if !names.contains(name) {
            return;
        }
        if mask.contains(EventMask::MODIFY) {
            self.being_written = true;
        } else if mask.intersects(EventMask::CLOSE_WRITE | EventMask::MOVED_TO) {
            self.being_written = false;
            self.changed = true;
        } else if mask.contains(EventMask::CREATE) {
            // A new file is empty until its writer closes it; a new link is complete.
            self.changed |= directory.join(name).is_symlink();
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
