//! The house rules that no compiler checks: sizes, layers, migrations in pairs, no trace of anyone's machine.
//!
//! Each rule is a function from text to complaints, with an example that it must complain about.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should say so loudly"
)]

mod code;
mod rules;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rules::{
    BANNED, FILE_LINES_MAX, FUNCTION_LINES_MAX, README_LINES_MAX, Source, banned_words, functions,
    long_file, long_functions, test_files, too_long_to_read, unpaired, unproved, wrong_imports,
};

// ---- the rules, on this tree

#[test]
fn files_fit_in_the_head() {
    assert_none(&sources(), |source| long_file(source).into_iter().collect());
}

#[test]
fn functions_fit_on_a_screen() {
    assert_none(&sources(), |source| {
        long_functions(source, FUNCTION_LINES_MAX)
    });
}

#[test]
fn modules_import_leftwards_only() {
    let sources = sources();
    let tests = test_files(&sources);
    assert_none(&sources, |source| {
        if tests.contains(&source.path) {
            Vec::new()
        } else {
            wrong_imports(source)
        }
    });
}

#[test]
fn migrations_come_in_pairs() {
    let folders = |backend: &str| {
        let entries = fs::read_dir(root().join("migrations").join(backend));
        let entries = entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        entries
            .filter(|path| path.is_dir())
            .map(|path| (last_name(&path), path.join("up.sql").is_file()))
            .collect::<Vec<_>>()
    };
    let complaints = unpaired(&folders("sqlite"), &folders("postgres"));
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn nothing_tells_of_a_machine() {
    let complaints: Vec<String> = tracked_files()
        .iter()
        .flat_map(|path| {
            let bytes = fs::read(root().join(path)).unwrap_or_default();
            banned_words(path, &String::from_utf8_lossy(&bytes))
        })
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn the_readme_can_be_read() {
    let text = fs::read_to_string(root().join("README.md")).unwrap_or_default();
    assert!(
        !too_long_to_read(&text),
        "README.md has more than {README_LINES_MAX} lines"
    );
}

#[test]
fn every_promise_names_tests_that_exist() {
    let text = fs::read_to_string(root().join("docs/GUARANTEES.md")).expect("the promises");
    let folders = ["src", "tests"].map(|folder| files_below(&root().join(folder)));
    let rust = folders.into_iter().flatten();
    let rust = rust.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let known = rust
        .flat_map(|path| functions(&fs::read_to_string(path).unwrap_or_default()))
        .collect();
    let complaints = unproved(&text, &known);
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

// ---- the rules, on examples that break them

fn example(path: &str, text: &str) -> Source {
    Source {
        path: path.into(),
        text: text.to_owned(),
    }
}

#[test]
fn a_long_file_is_noticed() {
    assert!(long_file(&example("src/a.rs", &"\n".repeat(FILE_LINES_MAX))).is_none());
    assert!(long_file(&example("src/a.rs", &"\n".repeat(FILE_LINES_MAX + 1))).is_some());
}

#[test]
fn a_long_function_is_noticed_whatever_its_strings_say() {
    let text = r##"
        const fn short<'a>(brace: &'a char) -> bool { *brace == '}' || *brace == '\'' }
        trait T { fn without_body(&self) -> [u8; 2]; }
        fn long() {
            let text = "}"; // }
            let raw = r#"}""}"#; /* } /* } */ } */
            let byte = b'{';
        }
        fn after() {}
    "##;
    let complaints = long_functions(&example("src/a.rs", text), 4);
    assert_eq!(complaints, ["src/a.rs:4: long has 5 lines, 4 are allowed"]);
}

#[test]
fn an_import_to_the_right_or_within_a_column_is_noticed() {
    let wrong = |path: &str, text: &str| wrong_imports(&example(path, text));
    assert_eq!(
        wrong("src/store/mod.rs", "use crate::domain::{Life, State};").len(),
        0
    );
    assert_eq!(
        wrong(
            "src/store/rows.rs",
            "use super::Error; use crate::store::X;"
        )
        .len(),
        0
    );
    assert_eq!(
        wrong(
            "src/store/rows.rs",
            "use crate::{domain::{Life, State}, http::Problem};"
        ),
        ["src/store/rows.rs: store may not use http"]
    );
    assert_eq!(
        wrong("src/auth.rs", "fn f() { crate::dispatch::call() }"),
        ["src/auth.rs: auth may not use dispatch"]
    );
    assert_eq!(
        wrong("src/clock.rs", "use super::store;"),
        ["src/clock.rs: clock may not use store"]
    );
    assert_eq!(
        wrong("src/http/a.rs", "use super::super::store::X;").len(),
        1,
        "a back door"
    );
    assert_eq!(wrong("src/novel/a.rs", "").len(), 1, "an unknown module");
    assert_eq!(
        wrong("src/store/mod.rs", "use crate::{novel};").len(),
        1,
        "an unknown import"
    );
    let excused = "// crate::http\nconst T: &str = \"crate::http\";\n\
                   #[cfg(test)]\nmod tests { use crate::http::X; }";
    assert_eq!(
        wrong("src/store/mod.rs", excused).len(),
        0,
        "comments, strings and tests"
    );
}

#[test]
fn a_file_of_tests_is_told_by_its_declaration() {
    let declared = [
        example("src/a/mod.rs", "#[cfg(test)]\nmod cases;\nmod code;"),
        example("src/b.rs", "#[cfg(test)]\nmod tests;"),
    ];
    let files = test_files(&declared);
    let files: Vec<String> = files
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    assert_eq!(files, ["src/a/cases.rs", "src/b/tests.rs"]);
}

#[test]
fn a_migration_without_its_twin_is_noticed() {
    let folder = |name: &str, up: bool| (name.to_owned(), up);
    let one = [folder("1_a", true)];
    assert_eq!(unpaired(&one, &one), Vec::<String>::new());
    assert_eq!(unpaired(&one, &[folder("1_b", true)]).len(), 2);
    assert_eq!(
        unpaired(&one, &[folder("1_a", false)]).len(),
        1,
        "no up.sql"
    );
}

#[test]
fn a_trace_of_a_machine_is_noticed() {
    for word in BANNED {
        assert_eq!(
            banned_words("a.rs", &format!("x\nsee {word}x")).len(),
            1,
            "in the text"
        );
        assert_eq!(
            banned_words(&format!("a{word}x"), "").len(),
            1,
            "in the name"
        );
    }
    assert!(banned_words("a.rs", "framework/x").is_empty());
}

#[test]
fn a_long_readme_is_noticed() {
    assert!(too_long_to_read(&"\n".repeat(README_LINES_MAX + 1)));
}

#[test]
fn a_promise_without_a_test_is_noticed() {
    let known = functions("fn proof() {} fn other() {}");
    let table = "| promise | proved by |\n|---|---|\n| one | `proof`, `lost` |\n| two | nobody |";
    let complaints = unproved(table, &known);
    assert_eq!(complaints.len(), 2, "{complaints:?}");
    assert!(complaints[0].ends_with("lost"));
    assert!(unproved("| `word` | `proof` and `other` |", &known).is_empty());
}

// ---- the tree

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn last_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn assert_none(sources: &[Source], complaints: impl Fn(&Source) -> Vec<String>) {
    assert!(sources.len() > 10, "the sources were found");
    let found: Vec<String> = sources.iter().flat_map(complaints).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

fn sources() -> Vec<Source> {
    let files = files_below(&root().join("src"));
    let rust = files
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.map(|path| Source {
        text: fs::read_to_string(&path).expect("a source in UTF-8"),
        path: path
            .strip_prefix(root())
            .expect("a path below the root")
            .to_owned(),
    })
    .collect()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a readable folder");
    let paths = entries.map(|entry| entry.expect("a readable entry").path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files_below(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

/// What git has or would add.
fn tracked_files() -> Vec<String> {
    let arguments = [
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ];
    let output = Command::new("git")
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("git");
    assert!(
        output.status.success(),
        "git ls-files: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    names
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(ToOwned::to_owned)
        .collect()
}
