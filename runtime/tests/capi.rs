//! The C interface: teff.h matches the Rust definitions, and the programs of examples/c behave as
//! documented.
#![cfg(feature = "capi")]

use std::any::TypeId;
use std::collections::BTreeSet;
use std::ffi::{c_char, c_void};
use std::fmt::Write as _;
use std::mem::offset_of;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use teff_runtime::capi::*;
use teff_runtime::{Generate, Model, SessionOptions};

const HEADER: &str = include_str!("../include/teff.h");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Folder of its own for each test.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("capi").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Compiler of the system; `None`, with a message, if there is none.
fn compiler(name: &str) -> Option<Command> {
    if !cfg!(unix) || Command::new(name).arg("--version").output().is_err() {
        println!("skipped: there is no {name}");
        return None;
    }
    let mut cc = Command::new(name);
    cc.arg("-I").arg(root().join("runtime/include"));
    cc.args(["-pedantic", "-Wall", "-Wextra", "-Werror"]);
    Some(cc)
}

fn succeed(command: &mut Command) -> Output {
    let out = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        out.status.success(),
        "{command:?}: {}\n{}{}",
        out.status,
        text(&out.stdout),
        text(&out.stderr)
    );
    out
}

/// Name of a type in C.
trait C: 'static {
    fn c() -> String;
}

macro_rules! c_names {
    ($($t:ty: $name:literal),* $(,)?) => {
        $(impl C for $t {
            fn c() -> String {
                $name.to_owned()
            }
        })*
    };
}
c_names! {
    (): "void", c_void: "void", i8: "char", u8: "uint8_t", i32: "int32_t", u32: "uint32_t",
    TeffEngine: "teff_engine", TeffRequest: "teff_request", TeffEvent: "teff_event",
    TeffEngineOptions: "teff_engine_options", TeffEngineInfo: "teff_engine_info",
    TeffEngineCounts: "teff_engine_counts",
    u64: "uint64_t", usize: "size_t", f32: "float", Option<TeffOnText>: "teff_on_text",
    TeffModel: "teff_model", TeffSession: "teff_session", TeffLoadOptions: "teff_load_options",
    TeffModelInfo: "teff_model_info", TeffNeeds: "teff_needs",
    TeffSessionOptions: "teff_session_options", TeffSessionInfo: "teff_session_info",
    TeffGenerateOptions: "teff_generate_options",
}

impl<T: C> C for *const T {
    fn c() -> String {
        format!("const {} *", T::c())
    }
}

impl<T: C> C for *mut T {
    fn c() -> String {
        format!("{} *", T::c())
    }
}

/// Declaration of a function in C, from its type in Rust.
trait Declare {
    fn declare(self, name: &str) -> String;
}

macro_rules! declare {
    ($abi:literal: $($t:ident)*) => {
        impl<$($t: C,)* R: C> Declare for unsafe extern $abi fn($($t),*) -> R {
            fn declare(self, name: &str) -> String {
                let types: Vec<String> = vec![$($t::c()),*];
                let types = if types.is_empty() { "void".to_owned() } else { types.join(", ") };
                format!("{} {name}({types});", R::c())
            }
        }
    };
}
declare!("C":);
declare!("C": A);
declare!("C": A B);
declare!("C": A B D);
declare!("C": A B D E);
declare!("C": A B D E F);
declare!("C": A B D E F G);
declare!("C": A B D E F G H);
declare!("C": A B D E F G H I);
declare!("C-unwind": A B D);

macro_rules! declarations {
    ($($name:ident($($arg:tt)*)),* $(,)?) => {
        vec![$((
            stringify!($name),
            ($name as unsafe extern "C" fn($($arg)*) -> _).declare(stringify!($name)),
        )),*]
    };
}

/// All functions, with types inferred by the compiler.
fn functions() -> Vec<(&'static str, String)> {
    declarations![
        teff_version(),
        teff_error_text(),
        teff_status_name(_),
        teff_model_open(_, _, _),
        teff_model_open_bytes(_, _, _, _),
        teff_model_free(_),
        teff_model_describe(_, _),
        teff_model_needs(_, _, _),
        teff_tokenize(_, _, _, _, _, _, _),
        teff_detokenize(_, _, _, _, _, _),
        teff_token_bytes(_, _, _, _),
        teff_token_ends(_, _),
        teff_session_new(_, _, _),
        teff_session_fork(_, _),
        teff_session_free(_),
        teff_session_describe(_, _),
        teff_session_step(_, _, _, _, _, _),
        teff_session_generate(_, _, _, _, _, _, _),
        teff_session_generate_tokens(_, _, _, _, _, _, _),
        teff_session_cancel(_),
        teff_session_resume(_),
        teff_session_set_timeout(_, _),
        teff_session_tokens(_, _, _, _),
        teff_session_truncate(_, _),
        teff_session_save(_, _, _, _),
        teff_session_restore(_, _, _),
        teff_engine_memory(_, _, _),
        teff_engine_new(_, _, _),
        teff_engine_free(_),
        teff_engine_describe(_, _),
        teff_engine_stats(_, _),
        teff_engine_submit(_, _, _, _, _, _, _, _),
        teff_request_poll(_, _, _),
        teff_request_cancel(_),
        teff_request_free(_),
    ]
}

macro_rules! constants {
    ($($name:ident),* $(,)?) => { vec![$((stringify!($name).to_owned(), i64::from($name))),*] };
}

fn constants() -> Vec<(String, i64)> {
    let mut all = constants![
        TEFF_LOAD_READ,
        TEFF_LOAD_REPACK,
        TEFF_NO_TOKEN,
        TEFF_KV_F32,
        TEFF_KV_F16,
        TEFF_KV_Q8,
        TEFF_PARSE_SPECIAL,
        TEFF_ADD_BOS,
        TEFF_LOGITS_NONE,
        TEFF_LOGITS_LAST,
        TEFF_LOGITS_ALL,
        TEFF_FINISH_NONE,
        TEFF_FINISH_LENGTH,
        TEFF_FINISH_END,
        TEFF_FINISH_CONTEXT,
        TEFF_FINISH_CALLBACK,
        TEFF_FINISH_STOP,
        TEFF_FINISH_CANCELLED,
        TEFF_FINISH_DEADLINE,
        TEFF_EVENT_NONE,
        TEFF_EVENT_PROMPT,
        TEFF_EVENT_PIECE,
        TEFF_EVENT_FINISHED,
        TEFF_EVENT_FAILED,
        TEFF_EVENT_END,
        TEFF_WAIT,
    ];
    let named = |&(value, name): &(i32, &std::ffi::CStr)| {
        (name.to_str().unwrap().to_owned(), i64::from(value))
    };
    all.extend(STATUSES.iter().map(named));
    all
}

/// Assertions of a struct's size and of every field's offset and size. The pattern ensures that no
/// field of the Rust struct is left out; the sizes leave no room for an additional one in C.
macro_rules! layout {
    ($out:ident, $t:ident { $($field:ident),* }) => {
        fn sizes(value: $t) -> Vec<(&'static str, usize, usize)> {
            let $t { $($field),* } = value;
            vec![$((stringify!($field), offset_of!($t, $field), size_of_val(&$field))),*]
        }
        // SAFETY: a plain struct of numbers and pointers, for which zeros are valid.
        let fields = sizes(unsafe { std::mem::zeroed() });
        let (c, size) = ($t::c(), size_of::<$t>());
        writeln!($out, "_Static_assert(sizeof({c}) == {size}, \"{c}\");").unwrap();
        let mut end = 0;
        for (field, offset, size) in fields {
            assert_eq!(offset, end, "{c}.{field}: a hole before it");
            end = offset + size;
            let field_size = format!("sizeof((({c} *)0)->{field})");
            writeln!($out, "_Static_assert(offsetof({c}, {field}) == {offset}, \"{c}.{field}\");")
                .unwrap();
            writeln!($out, "_Static_assert({field_size} == {size}, \"{c}.{field}\");").unwrap();
        }
        assert_eq!(end, size, "{c}: a hole at its end");
    };
}

fn layouts() -> String {
    let mut c = String::new();
    {
        layout!(c, TeffLoadOptions { size, budget, quantize, head, flags, reserved });
    }
    {
        layout!(
            c,
            TeffSessionOptions { size, context, batch, logits, budget, backend, threads, kv }
        );
    }
    {
        layout!(
            c,
            TeffGenerateOptions {
                size,
                max_tokens,
                seed,
                temperature,
                top_p,
                min_p,
                repeat_penalty,
                presence_penalty,
                frequency_penalty,
                top_k,
                repeat_last_n,
                ignore_end,
                reserved,
                stop,
                n_stop
            }
        );
    }
    {
        layout!(
            c,
            TeffModelInfo {
                size,
                architecture,
                name,
                parameters,
                file_bytes,
                weight_bytes,
                owned_bytes,
                vocabulary,
                context,
                layers,
                width,
                bos,
                eos,
                has_tokenizer,
                reserved
            }
        );
    }
    {
        layout!(c, TeffNeeds { size, total, cache, arena, threads_own, tables, threads, reserved });
    }
    {
        layout!(c, TeffSessionInfo { size, bytes, backend, context, batch, logits, threads, kv });
    }
    {
        layout!(
            c,
            TeffEngineOptions {
                size,
                context,
                sequences,
                queue,
                batch,
                memory,
                cache,
                backend,
                threads,
                kv,
                pause_ms,
                reserved
            }
        );
    }
    {
        layout!(
            c,
            TeffEngineInfo {
                size,
                total,
                page_bytes,
                checkpoint_bytes,
                arena,
                sequences,
                tables,
                samplers,
                pages,
                checkpoints,
                context,
                threads,
                reserved
            }
        );
    }
    {
        layout!(
            c,
            TeffEngineCounts {
                size,
                waiting,
                running,
                batch_tokens,
                batch_sequences,
                pages,
                pages_running,
                pages_cached,
                pages_free,
                checkpoints,
                checkpoints_used,
                requests,
                sequences,
                ended_sequences,
                cancelled,
                prompt_tokens,
                cached_tokens,
                generated_tokens,
                steps,
                computed_tokens,
                preemptions,
                evictions
            }
        );
    }
    {
        layout!(
            c,
            TeffEvent {
                size,
                kind,
                choice,
                text,
                len,
                tokens,
                n_tokens,
                prompt_tokens,
                cached_tokens,
                generated,
                finish,
                status
            }
        );
    }
    c
}

/// C program that does not compile, or fails, if the header differs from Rust.
fn check_program() -> String {
    let mut c = String::from("#include \"teff.h\"\n#include <string.h>\n");
    for (_, declaration) in functions() {
        writeln!(c, "{declaration}").unwrap(); // twice the same is allowed, else it is an error
    }
    let callback: TeffOnText = {
        unsafe extern "C-unwind" fn none(_: *mut c_void, _: *const c_char, _: usize) -> i32 {
            0
        }
        none
    };
    writeln!(c, "static {}", callback.declare("callback")).unwrap();
    c.push_str("static int32_t callback(void *a, const char *b, size_t c) {\n");
    c.push_str("    (void)a, (void)b, (void)c;\n    return 0;\n}\n");
    for (name, value) in constants() {
        writeln!(c, "_Static_assert({name} == {value}, \"{name}\");").unwrap();
    }
    c.push_str(&layouts());
    writeln!(c, "int main(void) {{").unwrap();
    writeln!(c, "    teff_on_text on_text = callback;").unwrap();
    for t in ["load_options", "session_options", "generate_options", "engine_options"] {
        writeln!(c, "    teff_{t} {t} = TEFF_{}_INIT;", t.to_uppercase()).unwrap();
    }
    for t in ["model_info", "needs", "session_info", "engine_info", "engine_counts", "event"] {
        let init = t.to_uppercase();
        writeln!(c, "    {{ teff_{t} x = TEFF_{init}_INIT; if (x.size != sizeof x) return 9; }}")
            .unwrap();
    }
    let o = TeffGenerateOptions::default();
    let defaults = [
        format!(
            "on_text == callback && strcmp(TEFF_VERSION, \"{}\") == 0",
            env!("CARGO_PKG_VERSION")
        ),
        format!("generate_options.size == {}", o.size),
        format!(
            "generate_options.max_tokens == {} && generate_options.seed == {}",
            o.max_tokens, o.seed
        ),
        format!("generate_options.temperature == {:?}f", o.temperature),
        format!(
            "generate_options.top_p == {:?}f && generate_options.min_p == {:?}f",
            o.top_p, o.min_p
        ),
        format!("generate_options.repeat_penalty == {:?}f", o.repeat_penalty),
        format!("generate_options.presence_penalty == {:?}f", o.presence_penalty),
        format!("generate_options.frequency_penalty == {:?}f", o.frequency_penalty),
        format!("generate_options.top_k == {}", o.top_k),
        format!("generate_options.repeat_last_n == {}", o.repeat_last_n),
        format!(
            "generate_options.ignore_end == {} && generate_options.reserved == 0",
            o.ignore_end
        ),
        // All others are their size and zeros.
        format!("load_options.size == {}", TeffLoadOptions::default().size),
        format!("session_options.size == {}", TeffSessionOptions::default().size),
        "!load_options.budget && !load_options.quantize && !load_options.head".into(),
        "!load_options.flags && !load_options.reserved".into(),
        "!session_options.context && !session_options.batch && !session_options.logits".into(),
        "!session_options.budget && !session_options.backend && !session_options.threads".into(),
        "!session_options.kv".into(),
        format!("engine_options.size == {}", TeffEngineOptions::default().size),
        "!engine_options.context && !engine_options.sequences && !engine_options.queue".into(),
        "!engine_options.batch && !engine_options.memory && !engine_options.cache".into(),
        "!engine_options.backend && !engine_options.threads && !engine_options.kv".into(),
        "!engine_options.pause_ms && !engine_options.reserved".into(),
    ];
    for (i, default) in defaults.iter().enumerate() {
        writeln!(c, "    if (!({default})) return {};", i + 10).unwrap();
    }
    c.push_str("    return 0;\n}\n");
    c
}

#[test]
fn the_header_is_rusts() {
    if TypeId::of::<c_char>() != TypeId::of::<i8>() {
        println!("skipped: char is not i8 here, so that Rust can't tell it from uint8_t");
        return;
    }
    let Some(mut cc) = compiler("cc") else { return };
    let folder = folder("header");
    let (source, program) = (folder.join("check.c"), folder.join("check"));
    std::fs::write(&source, check_program()).unwrap();
    succeed(cc.arg("-std=c11").arg(&source).arg("-o").arg(&program));
    succeed(&mut Command::new(&program));
    // Proof that a difference is detected: the program with one change does not compile.
    for (from, to) in [
        ("teff_session_cancel(teff_session *)", "teff_session_cancel(const teff_session *)"),
        ("_Static_assert(TEFF_BUSY == 16", "_Static_assert(TEFF_BUSY == 17"),
        ("offsetof(teff_needs, arena) == 24", "offsetof(teff_needs, arena) == 32"),
        (
            "teff_request_poll(teff_request *, uint32_t,",
            "teff_request_poll(teff_request *, int32_t,",
        ),
    ] {
        let other = check_program().replacen(from, to, 1);
        assert_ne!(other, check_program(), "{from} is not in it");
        std::fs::write(&source, other).unwrap();
        let mut cc = compiler("cc").unwrap();
        let out = cc.arg("-std=c11").arg("-fsyntax-only").arg(&source).output().unwrap();
        assert!(!out.status.success(), "{from} as {to} was not seen");
    }
}

/// Words of the header, without its comments, for which `pick` holds.
fn words(pick: impl Fn(&str, &str) -> bool) -> BTreeSet<String> {
    let mut text = String::new();
    for (i, part) in HEADER.split("/*").enumerate() {
        text.push_str(if i == 0 { part } else { part.split_once("*/").unwrap().1 });
    }
    let starts = text.match_indices("teff_").chain(text.match_indices("TEFF_"));
    let word = |(at, _)| {
        let rest: &str = &text[at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap();
        pick(&rest[..end], &rest[end..]).then(|| rest[..end].to_owned())
    };
    starts.filter_map(word).collect()
}

#[test]
fn header_and_rust_have_the_same_names() {
    let in_header = words(|word, after| word.starts_with("teff_") && after.starts_with('('));
    let checked: BTreeSet<_> = functions().iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(in_header, checked, "functions");
    let mut exported = BTreeSet::new();
    for file in std::fs::read_dir(root().join("runtime/src/capi")).unwrap() {
        let source = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for part in source.split("#[unsafe(no_mangle)]").skip(1) {
            let (_, from_name) = part.split_once("extern \"C\" fn ").unwrap();
            exported.insert(from_name.split('(').next().unwrap().to_owned());
        }
    }
    assert_eq!(exported, checked, "exported functions");
    let others = ["TEFF_H", "TEFF_VERSION"];
    let in_header = words(|word, _| {
        word.starts_with("TEFF_") && !word.ends_with("_INIT") && !others.contains(&word)
    });
    let checked: BTreeSet<_> = constants().into_iter().map(|(name, _)| name).collect();
    assert_eq!(in_header, checked, "constants");
}

#[test]
fn the_header_is_clean_c99_and_cpp() {
    let uses = "#include \"teff.h\"\n#include \"teff.h\"\n\
        int main(void) {\n\
        teff_load_options a = TEFF_LOAD_OPTIONS_INIT;\n\
        teff_session_options b = TEFF_SESSION_OPTIONS_INIT;\n\
        teff_generate_options c = TEFF_GENERATE_OPTIONS_INIT;\n\
        teff_engine_options d = TEFF_ENGINE_OPTIONS_INIT;\n\
        teff_engine_info e = TEFF_ENGINE_INFO_INIT;\n\
        teff_engine_counts f = TEFF_ENGINE_COUNTS_INIT;\n\
        teff_event g = TEFF_EVENT_INIT;\n\
        return a.size + b.size + c.size + d.size + e.size + f.size + g.size == 0\n\
            || teff_version() == NULL; }\n";
    let folder = folder("clean");
    for (name, file, flags) in [
        ("cc", "clean.c", &["-std=c99", "-Wstrict-prototypes", "-Wmissing-prototypes"][..]),
        (
            "c++",
            "clean.cpp",
            &["-std=c++11", "-Wold-style-cast", "-Wzero-as-null-pointer-constant"],
        ),
    ] {
        let Some(mut compile) = compiler(name) else { continue };
        let source = folder.join(file);
        std::fs::write(&source, uses).unwrap();
        succeed(compile.args(flags).arg("-fsyntax-only").arg(&source));
    }
}

#[test]
fn the_headers_example_compiles() {
    let Some(mut cc) = compiler("cc") else { return };
    let (_, rest) = HEADER.split_once("A first program:").unwrap();
    let (example, _) = rest.split_once(" * Errors.").unwrap();
    let lines = example.lines().filter_map(|line| line.strip_prefix(" *     "));
    let program: String = lines.flat_map(|line| [line, "\n"]).collect();
    assert!(program.contains("int main(void)"), "{program}");
    let source = folder("example").join("example.c");
    std::fs::write(&source, program).unwrap();
    succeed(cc.arg("-std=c99").arg("-fsyntax-only").arg(&source));
}

/// Builds the library as described in teff.h, except for `--release`, which takes longer than it
/// would save.
fn library() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let target = exe.ancestors().nth(3).unwrap(); // target/debug/deps/capi-...
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.current_dir(root()).env("CARGO_TARGET_DIR", target);
    cargo.args(["rustc", "-q", "-p", "teff-runtime", "--features", "capi"]);
    cargo.args(["--crate-type", "staticlib,cdylib"]);
    succeed(&mut cargo);
    target.join("debug")
}

/// Standard output of a program.
fn said(command: &mut Command) -> String {
    String::from_utf8(succeed(command).stdout).unwrap()
}

#[test]
#[ignore = "builds the library once more: `.ci/run capi`"]
fn c_programs_run() {
    if !cfg!(target_os = "linux") {
        println!("skipped: the libraries of the system are known for Linux only");
        return;
    }
    if compiler("cc").is_none() {
        return;
    }
    let (library, folder) = (library(), folder("programs"));
    let build = |name: &str, shared: bool| {
        let program = folder.join(format!("{name}{}", if shared { "-shared" } else { "" }));
        let mut cc = compiler("cc").unwrap();
        cc.args(["-std=c99", "-D_POSIX_C_SOURCE=200809L", "-g"]);
        cc.arg(root().join("examples/c").join(name).with_extension("c"));
        match shared {
            true => cc.arg("-L").arg(&library).arg("-lteff_runtime"),
            false => cc.arg(library.join("libteff_runtime.a")),
        };
        succeed(cc.args(["-lpthread", "-lm", "-ldl", "-o"]).arg(&program));
        program
    };
    let story = root().join("examples/gpt2/model.gguf");
    let prompt = "Once upon a time";
    let model = Model::open(&story).unwrap();
    let mut session = model.session(&SessionOptions::default()).unwrap();
    let how = Generate { max_tokens: Some(20), ..Generate::default() };
    let pieces = session.generate(prompt, &how).unwrap();
    let want: String = pieces.map(Result::unwrap).collect();
    for shared in [false, true] {
        let mut command = Command::new(build("story", shared));
        command.env("LD_LIBRARY_PATH", &library);
        let got = said(command.arg(&story).args([prompt, "20"]));
        assert_eq!(got, format!("{prompt}{want}\n"));
    }
    let out = Command::new(folder.join("story")).args(["no/such", "a"]).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("no/such"), "{out:?}");

    // More prompts than run at a time; each has the text that a session writes.
    let prompts = ["Once upon a time", "The cat", "The dog", "One day", "A bird", "Once upon a"];
    let mut want = String::new();
    for prompt in prompts {
        session.truncate(0);
        let pieces = session.generate(prompt, &how).unwrap();
        want += &format!("{prompt}{}\n", pieces.map(Result::unwrap).collect::<String>());
    }
    let mut command = Command::new(build("many", false));
    assert_eq!(said(command.arg(&story).arg("20").args(prompts)), want);

    let small = root().join("tests/data/gpt2/gpt2-Q8_0.gguf");
    let report = said(Command::new(build("misuse", false)).arg(&small).arg(&folder));
    println!("{report}");
    let engines = said(Command::new(build("misuse_engines", false)).arg(small));
    assert!(engines.ends_with("\n0 not as expected\n"), "{engines}");
    for (_, status) in STATUSES {
        let status = status.to_str().unwrap();
        // Statuses that no small program can cause on a machine with enough memory and intact
        // models.
        let rare = ["MEMORY", "THREADS", "NUMBERS", "PANIC"];
        let seen = report.contains(&format!("{status} "));
        assert!(seen || rare.contains(&&status[5..]), "misuse shows no {status}");
    }
}
