//! `payfence.toml`, for every command.
//!
//! In: the file of a directory, the command line's definition. Out: the definition with the file's keys as defaults of the flags
//! whose variables they are named after (`PAYFENCE_AUDIT_DAYS` is `audit_days`). The keys of a node are left to [`super::with_file`],
//! which knows how they go together.
//! Always holds: a flag or variable comes before the file; a key that belongs to no command is an error.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command, CommandFactory as _};
use toml::de::DeTable;
use toml::{Table, Value};

use crate::cli::Cli;
use crate::failure::Failure;

/// The file looked for in the working directory.
pub const FILE: &str = "payfence.toml";
const PREFIX: &str = "PAYFENCE_";
/// The command whose keys a node's are.
const NODE: &str = "dataplane";
/// Commands that ask the file nothing: they need no settings, or (`dev`) bring their own.
const WITHOUT_FILE: [&str; 4] = ["dev", "token", "policy", "help"];

/// The file's path and text; `None` where there is none.
///
/// # Errors
/// When it cannot be read.
pub fn read(directory: &Path) -> Result<Option<(PathBuf, String)>, Failure> {
    let path = directory.join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some((path, text))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(Failure::configuration(format!("cannot read {}: {error}", path.display())))
        }
    }
}

/// Parses the command line, completed by the file in `directory`. Wrong use ends the process, as clap does it.
///
/// # Errors
/// When the file is wrong.
pub fn parse(directory: &Path) -> Result<clap::ArgMatches, Failure> {
    let plain = Cli::command();
    let asked = plain.clone().ignore_errors(true).try_get_matches();
    let name = asked.ok().and_then(|matches| matches.subcommand_name().map(str::to_owned));
    let Some(name) = name.filter(|name| !WITHOUT_FILE.contains(&name.as_str())) else {
        return Ok(plain.get_matches());
    };
    let Some((path, text)) = read(directory)? else { return Ok(plain.get_matches()) };
    let wrong = |error: String| Failure::configuration(format!("{}: {error}", path.display()));
    let file: Table = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    check_keys(&text).map_err(wrong)?;
    let completed = complete(plain.clone(), &name, &file).map_err(wrong)?;
    match completed.try_get_matches() {
        Ok(matches) => Ok(matches),
        // What is wrong is not in the command line.
        Err(error) if plain.try_get_matches().is_ok() => {
            let text = error.to_string();
            let said = text.split("\n\n").next().unwrap_or_default();
            Err(wrong(said.trim_start_matches("error: ").to_owned()))
        }
        Err(error) => error.exit(),
    }
}

/// Notes a key that belongs to no command.
///
/// # Errors
/// What is wrong with it.
pub fn check_keys(text: &str) -> Result<(), String> {
    let file = DeTable::parse(text).map_err(|error| error.to_string())?;
    let mut known = BTreeSet::new();
    keys(&Cli::command(), &mut known);
    let is_known = |key: &str| known.contains(key);
    let Some(key) = file.get_ref().keys().find(|key| !is_known(key.get_ref())) else {
        return Ok(());
    };
    let line = text.bytes().take(key.span().start).filter(|byte| *byte == b'\n').count() + 1;
    let known: Vec<String> = known.iter().map(|key| format!("`{key}`")).collect();
    let (key, known) = (key.get_ref(), known.join(", "));
    Err(format!("line {line}: unknown field `{key}`, expected one of {known}"))
}

/// The keys of a command and of those below it, but for those that do without the file.
fn keys(command: &Command, known: &mut BTreeSet<String>) {
    known.extend(command.get_arguments().filter_map(key_of));
    for below in command.get_subcommands().filter(|below| !is_without(below)) {
        keys(below, known);
    }
}

fn is_without(command: &Command) -> bool {
    WITHOUT_FILE.contains(&command.get_name())
}

/// The keys of a node.
pub fn node_keys() -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    if let Some(node) = Cli::command().find_subcommand(NODE) {
        keys(node, &mut known);
    }
    known
}

fn key_of(arg: &Arg) -> Option<String> {
    let name = arg.get_env()?.to_str()?;
    Some(name.strip_prefix(PREFIX)?.to_ascii_lowercase())
}

/// Gives the flags of the command `name`, and those of all commands, the file's values as defaults.
fn complete(command: Command, name: &str, file: &Table) -> Result<Command, String> {
    let mut own = file.clone();
    if name == NODE || name == "doctor" {
        let node = node_keys();
        own.retain(|key, _| !node.contains(key));
    }
    for (key, value) in &own {
        texts(value).ok_or_else(|| format!("{key}: expected a text, a number or `true`"))?;
    }
    let command = command.mut_args(|arg| with_default(arg, file));
    Ok(command.mut_subcommand(name, |below| complete_all(below, &own)))
}

fn complete_all(command: Command, file: &Table) -> Command {
    let names: Vec<String> =
        command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
    let command = command.mut_args(|arg| with_default(arg, file));
    names.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, |below| complete_all(below, file))
    })
}

fn with_default(arg: Arg, file: &Table) -> Arg {
    let value = key_of(&arg).and_then(|key| file.get(&key));
    let Some(texts) = value.and_then(texts) else { return arg };
    let is_many = matches!(arg.get_action(), ArgAction::Append);
    let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
    let texts = texts.into_iter().take(if is_many { usize::MAX } else { 1 });
    let defaults = texts.map(|text| match text.as_str() {
        "on" if is_switch => "true",
        "off" if is_switch => "false",
        // clap keeps texts for as long as the process lives; these are few, and read once.
        _ => &*text.leak(),
    });
    arg.required(false).default_values(defaults.collect::<Vec<&'static str>>())
}

/// A value as it would be written on the command line; `None` for what cannot be.
fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Integer(number) => Some(vec![number.to_string()]),
        Value::Float(number) => Some(vec![number.to_string()]),
        Value::Boolean(switch) => Some(vec![switch.to_string()]),
        Value::Array(values) => {
            let lists: Option<Vec<Vec<String>>> = values.iter().map(texts).collect();
            Some(lists?.concat()).filter(|texts| !texts.is_empty())
        }
        Value::Datetime(_) | Value::Table(_) => None,
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
