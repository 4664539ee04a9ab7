//! What the process may do, and whose the files are, once it has become the user that it is to be. Only root can try that.

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::support::process::{Directory, Running, run};

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

/// A file in this folder with these permissions.
fn file_with_mode(folder: &Directory, name: &str, text: &str, mode: u32) -> PathBuf {
    let file = folder.file(name, text);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    file
}

#[tokio::test]
async fn what_the_user_will_not_be_allowed_is_told_at_the_start_and_by_check() {
    if !is_root() {
        return;
    }
    let folder = Directory::new();
    let token = file_with_mode(&folder, "token", "secret", 0o600);
    let log = file_with_mode(&folder, "access.log", "", 0o600);
    let server = format!("state_file = \"{}\"", folder.path().join("orders").display());
    let tables = format!("[access_log]\nformat = \"json\"\nfile = \"{}\"", log.display());
    let text = configured("127.0.0.1:0", "", &server, &tables).replacen(
        "[admin]\n",
        &format!("[admin]\ntoken_file = \"{}\"\n", token.display()),
        1,
    );
    let doubts = [
        format!("`admin.token_file`, {}, can't be read by the user \"nobody\"", token.display()),
        format!("`access_log.file`, {}, can't be written by the user \"nobody\"", log.display()),
        format!(
            "the folder of `server.state_file`, {}, can't be written by the user \"nobody\"",
            folder.path().display()
        ),
    ];
    let file = folder.file("ringway.toml", &text);
    let checked = run(&["check", "--quiet", "-c", file.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert_eq!(checked.status.code(), Some(0), "{said}");
    for doubt in &doubts {
        assert!(said.contains(doubt), "{said} does not contain {doubt}");
    }
    let checked = run(&["check", "--deny-warnings", "-c", file.to_str().unwrap()]);
    assert_eq!(checked.status.code(), Some(78));
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.args(["run", "-c", file.to_str().unwrap()]).stdin(Stdio::null());
    let (running, told) = Running::start_and_listen(command, folder);
    for doubt in &doubts {
        assert!(told.iter().any(|line| line.contains(doubt)), "{told:?} does not contain {doubt}");
    }
    // What a reload is refused for is named, and who was refused it.
    running.signal("HUP");
    let refused = running.wait_for_line("the new configuration is refused");
    for part in [token.to_str().unwrap(), "`admin.token_file`", "Permission denied", "the user \"nobody\""] {
        assert!(refused.contains(part), "{refused} does not contain {part}");
    }
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
    running.signal("HUP");
    let refused = running.wait_for_line("the new configuration is refused");
    for part in [log.to_str().unwrap(), "`access_log.file`", "the user \"nobody\""] {
        assert!(refused.contains(part), "{refused} does not contain {part}");
    }
}

#[test]
fn check_tells_what_run_refuses_and_both_name_the_key() {
    let folder = Directory::new();
    let pool = "[pools.p]\nbackends = [\"127.0.0.1:9\"]\n[pools.p.health]\nkind = \"off\"\n";
    let listener = "[[listeners]]\naddress = \"127.0.0.1:0\"\n";
    let missing = folder.path().join("missing");
    let orders = folder.file("orders", "no orders");
    let cases = [
        (
            "[server]\nuser = \"ringway-nobody-has-this-name\"\n".to_owned(),
            "`server.user`",
            "useradd --system",
        ),
        ("[server]\nuser = \"65534\"\n".into(), "`server.user`", "takes a name, not a number"),
        (format!("[server]\nstate_file = {orders:?}\n"), "`server.state_file`", "orders"),
        (
            format!("[admin]\naddress = \"127.0.0.1:0\"\ntoken_file = {missing:?}\n"),
            "`admin.token_file`",
            "missing",
        ),
        (
            format!("[access_log]\nformat = \"json\"\nfile = {:?}\n", missing.join("access.log")),
            "`access_log.file`",
            "access.log",
        ),
    ];
    for (wrong, key, also) in cases {
        let admin = if wrong.contains("[admin]") { "" } else { "[admin]\naddress = \"127.0.0.1:0\"\n" };
        let file = folder.file("ringway.toml", &format!("{wrong}{admin}{listener}{pool}"));
        for command in ["check", "run"] {
            let output = run(&[command, "-c", file.to_str().unwrap()]);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(78), "{said}");
            assert!(said.contains(key) && said.contains(also), "{command}: {said}");
            assert!(!said.contains("useradd --system 65534"), "{said}");
        }
    }
}

#[test]
fn secrets_that_everybody_can_read_are_told() {
    let folder = Directory::new();
    let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
    let pair = made.cert.pem() + &made.signing_key.serialize_pem();
    let key = file_with_mode(&folder, "a.pem", &pair, 0o644);
    let token = file_with_mode(&folder, "token", "secret", 0o644);
    let text = format!(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\n[listeners.tls]\ncertificates = [{key:?}]\n\
         [admin]\naddress = \"127.0.0.1:0\"\ntoken_file = {token:?}\n\
         [pools.p]\nbackends = [\"127.0.0.1:9\"]\n[pools.p.health]\nkind = \"off\"\n"
    );
    let file = folder.file("ringway.toml", &text);
    let checked = run(&["check", "--quiet", "-c", file.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert_eq!(checked.status.code(), Some(0), "{said}");
    assert!(
        said.contains(&format!("everybody on this machine can read the private key in {}", key.display())),
        "{said}"
    );
    assert!(
        said.contains(&format!("everybody on this machine can read the admin token in {}", token.display())),
        "{said}"
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.args(["run", "-c", file.to_str().unwrap()]).stdin(Stdio::null());
    let (_running, told) = Running::start_and_listen(command, folder);
    for wanted in ["can read this private key", "can read the admin token"] {
        assert!(told.iter().any(|line| line.contains(wanted)), "{told:?}");
    }
}

/// A free port that only root may listen on.
fn low_port() -> u16 {
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (600..1024).rev().find(is_free).unwrap()
}

#[tokio::test]
async fn no_way_back_to_more_rights_is_left_and_an_upgrade_keeps_a_low_port() {
    if !is_root() {
        return;
    }
    let mut running = start(&configured(&format!("127.0.0.1:{}", low_port()), "", "", ""));
    let rights = |pid: u32| {
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
            let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
                line.trim().to_owned()
            };
            let none = "0".repeat(16);
            for set in ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:", "CapBnd:"] {
                assert_eq!(field(set), none, "{set} of {}", field("Name:"));
            }
            assert_eq!(field("NoNewPrivs:"), "1", "{}", field("Name:"));
        }
    };
    rights(running.child.id());
    running.signal("USR2");
    let pid = running.succeeded().await;
    rights(pid);
    assert!(std::net::TcpStream::connect(running.address).is_ok());
    running.end(pid).await;
}

#[test]
fn a_low_port_without_the_right_to_it_says_what_it_takes() {
    let first: u16 = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    if !is_root() || first < 1024 {
        return;
    }
    let folder = Directory::new();
    let program = folder.path().join("ringway");
    std::fs::copy(env!("CARGO_BIN_EXE_ringway"), &program).unwrap();
    let address = format!("127.0.0.1:{}", low_port());
    let file =
        folder.file("ringway.toml", &configured(&address, "", "", "").replace("user = \"nobody\"", ""));
    let mut command = Command::new(program);
    std::os::unix::process::CommandExt::uid(&mut command, nobody());
    let output = command.args(["run", "-c", file.to_str().unwrap()]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("ports below 1024 need root or CAP_NET_BIND_SERVICE"), "{said}");
}

#[tokio::test]
async fn without_the_right_to_give_files_away_the_start_goes_on_and_says_so() {
    if !is_root() || !Path::new("/usr/bin/setpriv").exists() {
        return;
    }
    let folder = Directory::new();
    let log = folder.path().join("access.log");
    let tables = format!("[access_log]\nformat = \"json\"\nfile = {log:?}");
    let file = folder.file("ringway.toml", &configured("127.0.0.1:0", "", "", &tables));
    let mut command = Command::new("/usr/bin/setpriv");
    command.args(["--bounding-set=-chown", "--inh-caps=-chown", env!("CARGO_BIN_EXE_ringway"), "run", "-c"]);
    command.arg(file).stdin(Stdio::null());
    let (_running, told) = Running::start_and_listen(command, folder);
    for wanted in ["can't be given to the user of `server.user`", "`access_log.file`"] {
        assert!(told.iter().any(|line| line.contains(wanted)), "{told:?}");
    }
    assert_eq!(owner(&log), 0);
}
