//! What the process may do, and whose the files are, once it has become the user that it is to be. Only root can try that.

use std::{
    net::TcpListener,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::support::{
    eventually,
    process::{Directory, Running, run},
};

/// Everybody has this user.
const USER: &str = "nobody";

fn is_root() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        println!("not root: nothing to give up");
    }
    is_root
}

fn owner(path: &Path) -> u32 {
    path.symlink_metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display())).uid()
}

fn nobody() -> u32 {
    nix::unistd::User::from_name(USER).unwrap().unwrap().uid.as_raw()
}

/// A configuration for one who becomes nobody: with more of `[server]`, and more tables.
fn configured(address: &str, listener: &str, server: &str, tables: &str) -> String {
    format!(
        "[server]\nuser = \"{USER}\"\n{server}\n[[listeners]]\naddress = \"{address}\"\n{listener}\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [pools.p]\nbackends = [\"127.0.0.1:9\"]\n[pools.p.health]\nkind = \"off\"\n{tables}\n"
    )
}

/// The program where everybody may start it again: the one of a build may lie in somebody's home.
fn start(text: &str) -> Running {
    let directory = Directory::new();
    let program = directory.path().join("ringway");
    std::fs::copy(env!("CARGO_BIN_EXE_ringway"), &program).unwrap();
    let file = directory.file("ringway.toml", text);
    let mut command = Command::new(program);
    command.args(["run", "-c", file.to_str().unwrap()]).stdin(Stdio::null());
    Running::start_command(command, directory)
}

#[tokio::test]
async fn what_is_made_before_root_is_given_up_belongs_to_the_user() {
    if !is_root() {
        return;
    }
    let folder = Directory::new();
    let at = |name: &str| -> PathBuf { folder.path().join(name) };
    let acme = format!(
        "[listeners.tls.acme]\nnames = [\"a.example\"]\nfolder = \"{}\"\ndirectory = \"https://127.0.0.1:9/directory\"\n\
         [[listeners]]\naddress = \"unix:{}\"\nmode = \"600\"",
        at("made/acme").display(),
        at("socket").display()
    );
    let log = format!("[access_log]\nformat = \"json\"\nfile = \"{}\"", at("access.log").display());
    let mut running = start(&configured("127.0.0.1:0", &acme, "", &log));
    for name in ["made", "made/acme", "made/acme/a.example.pem", "socket", "access.log"] {
        assert_eq!(owner(&at(name)), nobody(), "{name}");
    }
    // So all of it can be opened again, by this process and the next one.
    running.signal("HUP");
    running.wait_for_line("reloaded;");
    running.signal("USR2");
    let pid = running.succeeded().await;
    running.end(pid).await;
}

#[test]
fn a_link_in_the_users_folder_leads_root_nowhere() {
    if !is_root() {
        return;
    }
    let folder = Directory::new();
    let (mine, precious) = (folder.path().join("acme"), folder.file("precious", "precious"));
    std::fs::create_dir(&mine).unwrap();
    std::os::unix::fs::chown(&mine, Some(nobody()), None).unwrap();
    std::os::unix::fs::symlink(&precious, mine.join("a.example.new")).unwrap();
    let acme = format!(
        "[listeners.tls.acme]\nnames = [\"a.example\"]\nfolder = \"{}\"\ndirectory = \"https://127.0.0.1:9/directory\"",
        mine.display()
    );
    let _running = Running::start(&configured("127.0.0.1:0", &acme, "", ""));
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "precious");
    assert_eq!((owner(&precious), owner(&mine.join("a.example.pem"))), (0, nobody()));
}
