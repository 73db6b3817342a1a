//! The program's exit codes.

use std::process::{Command, Output};

fn xtask(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask")).args(args).output().unwrap()
}

#[test]
fn wrong_usage_is_2() {
    let out = xtask(&["ci", "fmt", "nonsense"]);
    assert_eq!(out.status.code(), Some(2));
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(
        said.starts_with("xtask: no section nonsense; there are: fmt ")
            && said.lines().count() == 1,
        "{said}"
    );
    assert_eq!(xtask(&["ci", "--tier", "weekly"]).status.code(), Some(2));
}

#[test]
fn the_list_has_a_line_for_each_section() {
    let out = xtask(&["ci", "--list"]);
    assert_eq!(out.status.code(), Some(0));
    let text = String::from_utf8(out.stdout).unwrap();
    for name in ["fmt ", "test ", "windows ", "check "] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name}: {text}");
    }
}
