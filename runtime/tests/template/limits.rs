//! Whatever a template does ends with an error: the limits, lowered so that little is enough.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use teff_graph::Cancel;
use teff_runtime::template::{
    Json, LimitKind, RenderOptions, Template, TemplateErrorKind, TemplateLimits,
};

/// Runs `f` on a stack of 512 KB.
fn on_small_stack<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        // What threads of Rust have by default, where nothing is optimised; a quarter of it is enough where it is.
        let builder = std::thread::Builder::new().stack_size(2 << 20);
        builder.spawn_scoped(scope, f).unwrap().join().unwrap()
    })
}

fn failure(source: &str, limits: TemplateLimits) -> TemplateErrorKind {
    on_small_stack(|| {
        let rendered = Template::parse_with(source, &limits).and_then(|t| t.render(&[]));
        rendered.map(|text| text.len()).unwrap_err().kind
    })
}

fn limit(source: &str, limits: TemplateLimits) -> LimitKind {
    match failure(source, limits) {
        TemplateErrorKind::Limit(limit) => limit,
        other => panic!("{other:?}"),
    }
}

const DEFAULT: fn() -> TemplateLimits = TemplateLimits::default;

/// Every form that can stand within itself.
const NESTING: [(&str, &str, &str); 22] = [
    ("{% if 1 %}", "", "{% endif %}"),
    ("{% for i in [1] %}", "", "{% endfor %}"),
    ("{% for i in [1] recursive %}", "", "{% endfor %}"),
    ("{% macro m() %}", "", "{% endmacro %}"),
    ("{% call m() %}", "", "{% endcall %}"),
    ("{% filter upper %}", "", "{% endfilter %}"),
    ("{% set x %}", "", "{% endset %}"),
    ("{% with %}", "", "{% endwith %}"),
    ("{% generation %}", "", "{% endgeneration %}"),
    ("{% autoescape true %}", "", "{% endautoescape %}"),
    ("{{ (", "1", ") }}"),
    ("{{ [", "1", "] }}"),
    ("{{ {1: ", "1", "} }}"),
    ("{{ f(", "1", ") }}"),
    ("{{ x[", "1", "] }}"),
    ("{{ -", "1", " }}"),
    ("{{ not ", "1", " }}"),
    ("{{ 1 + (2 * ", "1", ") }}"),
    ("{{ 1 if 1 else ", "1", " }}"),
    ("{{ 1 or not 2 < 3 ~ (", "1", ") }}"),
    ("{{ x|f(", "1", ") }}"),
    ("{{ x is f(", "1", ") }}"),
];

/// `open` many times, then the middle, then `close` as often, in one tag where they are one.
fn nested((open, middle, close): (&str, &str, &str), times: usize) -> String {
    let Some(open) = open.strip_prefix("{{ ") else {
        return open.repeat(times) + middle + &close.repeat(times);
    };
    let close = close.strip_suffix(" }}").unwrap_or("");
    format!("{{{{ {}{middle}{} }}}}", open.repeat(times), close.repeat(times))
}

#[test]
fn nesting_has_a_limit_before_it_takes_the_stack() {
    for form in NESTING {
        // Names of what isn't there are errors of their own, which come later than this one.
        let deep = nested(form, 20_000);
        assert_eq!(limit(&deep, DEFAULT()), LimitKind::Depth(100), "{form:?}");
        let low = limit(&nested(form, 9), DEFAULT().with_depth(8));
        assert_eq!(low, LimitKind::Depth(8), "{form:?}");
        // A little is fine.
        let fine = nested(form, 3);
        on_small_stack(|| match Template::parse(&fine) {
            Ok(_) => {}
            Err(e) => assert!(!matches!(e.kind, TemplateErrorKind::Limit(_)), "{fine}: {e}"),
        });
    }
}

#[test]
fn the_deepest_templates_that_are_allowed_fit_the_stack() {
    for form in NESTING {
        for times in (40..=100).step_by(5) {
            let source = nested(form, times);
            let most = DEFAULT().with_depth(usize::MAX);
            on_small_stack(|| {
                let done = Template::parse_with(&source, &most).and_then(|t| t.render(&[]));
                let fault = done.err().map(|e| e.kind);
                assert!(!matches!(fault, Some(TemplateErrorKind::Internal(_))), "{form:?}");
            });
        }
    }
    // Chains nest too, without brackets.
    for (chain, end) in [(".a", ""), ("|d", ""), (" + x", ""), ("[0]", ""), (" and x", "")] {
        let long = format!("{{{{ x{}{end} }}}}", chain.repeat(5000));
        assert_eq!(limit(&long, DEFAULT()), LimitKind::Depth(200), "{chain}");
        let most = format!("{{{{ x{} }}}}", chain.repeat(150));
        on_small_stack(|| assert!(Template::parse(&most).is_ok(), "{chain}"));
    }
}

#[test]
fn values_nest_no_deeper_than_allowed() {
    let grow = |wrap: &str| {
        format!(
            "{{% set ns = namespace(x=[]) %}}{{% for i in range(500) %}}\
             {{% set ns.x = {wrap} %}}{{% endfor %}}{{{{ ns.x }}}}"
        )
    };
    for wrap in [
        "[ns.x]",
        "(ns.x,)",
        "{1: ns.x}",
        "ns.x|map('string')",
        "ns.x|batch(2)",
        "{1: ns.x}.items()",
        "[ns.x].index",
        "cycler(ns.x)",
        "[ns.x]|reverse",
    ] {
        assert_eq!(limit(&grow(wrap), DEFAULT()), LimitKind::Depth(100), "{wrap}");
    }
    // A namespace may refer to itself, and to others in a long chain.
    let chain = "{% set ns = namespace(x=none) %}{% for i in range(2000) %}\
                 {% set n = namespace(x=ns.x) %}{% set ns.x = n %}{% endfor %}";
    on_small_stack(|| {
        assert_eq!(Template::parse(chain).unwrap().render(&[]).as_deref(), Ok(""));
    });
    assert_eq!(limit(&format!("{chain}{{{{ ns }}}}"), DEFAULT()), LimitKind::Depth(100));
    // Generators that use each other through namespaces.
    let lazy = "{% set ns = namespace(x=[1]) %}{% for i in range(2000) %}\
                {% set n = namespace(y=ns.x) %}\
                {% set ns.x = [n]|map(attribute='y')|map('list') %}{% endfor %}{{ ns.x|list }}";
    assert_eq!(limit(lazy, DEFAULT()), LimitKind::Depth(100));
}

#[test]
fn calls_are_counted() {
    let deep = "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}";
    assert_eq!(limit(deep, DEFAULT()), LimitKind::Calls(200));
    assert_eq!(limit(deep, DEFAULT().with_calls(5)), LimitKind::Calls(5));
    let two = "{% macro f() %}{{ g() }}{{ caller }}{% endmacro %}{% macro g() %}{% call f() %}{% endcall %}\
               {% endmacro %}{{ f() }}";
    assert_eq!(limit(two, DEFAULT()), LimitKind::Calls(200));
    let again = "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}";
    assert_eq!(limit(again, DEFAULT()), LimitKind::Calls(200));
    // The filter of a loop runs within what asks for it.
    let filter = "{% macro f() %}{% for x in [1] if f() %}{% endfor %}{% endmacro %}{{ f() }}";
    assert_eq!(limit(filter, DEFAULT()), LimitKind::Depth(100));
}

/// Templates that take more and more memory.
pub(crate) const GROWTH: [&str; 30] = [
    "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x.replace('a', 'aa') %}{% endfor %}",
    "{% set ns = namespace(x='aa') %}{% for i in range(99) %}{% set ns.x = ns.x|replace('a', ns.x) %}{% endfor %}",
    "{% set ns = namespace(x='a,') %}{% for i in range(99) %}{% set ns.x = ns.x.join(['a', ns.x, ns.x]) %}{% endfor %}",
    "{% set ns = namespace(x='<' * 10000) %}{% for i in range(99) %}{% set ns.x = ns.x|forceescape %}{% endfor %}",
    "{% set ns = namespace(x='%s') %}{% for i in range(99) %}{% set ns.x = '%s%s' % (ns.x, ns.x) %}{% endfor %}",
    "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}",
    "{% macro f(x) %}{{ f(x ~ x) }}{% endmacro %}{{ f('ab') }}",
    "{{ 'a' * 9999999999 }}",
    "{{ [1] * 9999999999 }}",
    "{{ 'a'.center(9999999999) }}",
    "{{ 'a'.zfill(9999999999) }}",
    "{{ '\\t'.expandtabs(1999999999) }}",
    "{{ '%2000000000d' % 1 }}",
    "{{ '%.2000000000f' % 1 }}",
    "{{ '{:2000000000}'.format(1) }}",
    "{{ '{:02000000000,}'.format(1) }}",
    "{{ '{:.2000000000f}'.format(1.5) }}",
    "{{ 'a'|indent(9999999999, true) }}",
    "{{ [1]|tojson(indent=9999999999) }}",
    "{{ [1]|batch(9999999999, 0)|list }}",
    "{{ ('a' * 500000).split('a') }}",
    "{{ ('a' * 500000)|list }}",
    "{{ range(100000)|map('string')|list }}",
    "{{ strftime_now('%999999999Y') }}",
    "{{ dict.fromkeys(range(100000)) }}",
    "{% set ns = namespace(x=none) %}{% for i in range(100000) %}{% set n = namespace(x=ns.x) %}{% set ns.x = n %}{% endfor %}",
    "{% set ns = namespace(x=none) %}{% for i in range(100000) %}{% macro m() %}{% endmacro %}{% set n = namespace(x=ns.x, m=m) %}{% set ns.x = n %}{% endfor %}",
];

#[test]
fn growth_stops_before_memory_is_taken() {
    let small = DEFAULT().with_memory(1 << 20).with_steps(u64::MAX);
    let want = TemplateErrorKind::Limit(LimitKind::Memory(1 << 20));
    let ends = |source| {
        let rendered = Template::parse_with(source, &small).and_then(|t| t.render(&[]));
        rendered.map_err(|e| e.kind)
    };
    let others = GROWTH.map(|source| (source, ends(source))).into_iter();
    let others: Vec<_> = others.filter(|(_, end)| end.as_ref() != Err(&want)).collect();
    assert!(others.is_empty(), "{others:#?}");
    // What was dropped doesn't count.
    let reused = "{% for i in range(90) %}{% set x = 'a' * 500000 %}{% endfor %}ok";
    let text = Template::parse_with(reused, &small).unwrap().render(&[]);
    assert_eq!(text.as_deref(), Ok("ok"));
}

#[test]
fn steps_count_loops_also_inside_of_functions() {
    let few = DEFAULT().with_steps(100_000);
    for source in [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% set x = 'a' * 1000000 %}{% for i in range(99999) %}{{ x.upper()|length }}{% endfor %}",
        "{% set x = 'ab' * 500000 %}{% for i in range(999) %}{{ x.count('a') }}{% endfor %}",
        "{% set x = 'ab' * 500000 %}{% for i in range(999) %}{{ 'c' in x }}{% endfor %}",
        "{% set x = [1] * 100000 %}{% for i in range(99) %}{{ 2 in x }}{{ x == x + [] }}{% endfor %}",
        "{% set x = range(99999)|list %}{% for i in range(99) %}{{ x|sort|length }}{% endfor %}",
        "{% for i in range(99999) %}{{ range(99999)|sum }}{% endfor %}",
        "{% set x = 'a' * 1000000 %}{% for i in range(99) %}{{ x|int }}{% endfor %}",
        "{% set x = 'a' * 1000000 %}{% for i in range(99) %}{{ x|float }}{% endfor %}",
        "{% set x = ' ' * 1000000 %}{% for i in range(99) %}{{ x|trim }}{% endfor %}",
        "{{ range(99999)|select('odd')|map('string')|join|length }}",
    ] {
        assert_eq!(limit(source, few), LimitKind::Steps(100_000), "{source}");
    }
    // Parsing counts too: many branches, each with names of its own.
    let branches: String =
        (0..2000).map(|i| format!("{{% if a{i} %}}{{% set b{i} = c{i} %}}{{% endif %}}")).collect();
    assert_eq!(limit(&branches, few), LimitKind::Steps(100_000));
}

#[test]
fn output_and_source_have_limits() {
    let limits = DEFAULT().with_output(100);
    let much = "{% for i in range(99) %}abc{% endfor %}";
    assert_eq!(limit(much, limits), LimitKind::Output(100));
    // What is collected and dropped is no output.
    let collected = format!("{{% set x %}}{much}{{% endset %}}{{{{ x|length }}}}");
    let template = Template::parse_with(&collected, &limits).unwrap();
    assert_eq!(template.render(&[]).as_deref(), Ok("297"));
    assert_eq!(limit(&"x".repeat(101), DEFAULT().with_source(100)), LimitKind::Source(100));
}

/// Cancels when it has been asked some times.
struct After(AtomicUsize);

impl Cancel for After {
    fn cancelled(&self) -> bool {
        self.0.fetch_sub(1, Ordering::Relaxed) <= 1
    }
}

#[test]
fn a_rendering_can_be_cancelled_and_has_its_time() {
    let endless = "{% set x = 'a' * 100000 %}{% for i in range(99999) %}\
                   {% for j in range(99999) %}{{ x.upper()|length }}{% endfor %}{% endfor %}";
    let template = Template::parse_with(endless, &DEFAULT().with_steps(u64::MAX)).unwrap();
    for times in [1, 5] {
        let after = After(AtomicUsize::new(times));
        let options = RenderOptions::default().with_cancel(&after);
        let e = template.render_with(&[], &options).unwrap_err();
        assert_eq!(e.kind, TemplateErrorKind::Cancelled);
    }
    let time = Duration::from_millis(5);
    let limits = DEFAULT().with_steps(u64::MAX).with_time(time);
    let options = RenderOptions::default().with_limits(limits);
    let e = template.render_with(&[], &options).unwrap_err();
    assert_eq!(e.kind, TemplateErrorKind::Limit(LimitKind::Time(time)));
}

/// Counts how often it is asked, and never cancels.
struct Asked(AtomicUsize);

impl Cancel for Asked {
    fn cancelled(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed);
        false
    }
}

#[test]
fn long_operations_ask_while_they_run() {
    // Millions of bytes. Cancelling is asked about before, and at least twice until the end.
    let longest = "{% set x = 'ab ' * 3000000 %}";
    let long = "{% set x = 'ab ' * 1000000 %}";
    let many = "{% set l = range(99999)|list * 2 %}";
    let operations = [
        (longest, "x.find('zz'); x.rfind('zz'); 'zz' in x; x.count('zz')"),
        (
            long,
            "x.strip('ab '); x.rstrip('ab '); \
             x.split('zz')|length; x.rsplit('zz')|length; x.partition('zz')|length; \
             x.rpartition('zz')|length; x.replace('zz', ''); x|replace('zz', ''); x.replace(' ', '').split()|length; \
             x.replace(' ', '').rsplit()|length; x.splitlines()|length; x.replace(' ', '').isalpha(); x.islower(); \
             x.upper().isupper(); x.title()|length; x.title().istitle(); x|striptags; x.upper(); x|tojson; x|e; \
             x|wordcount; x|urlencode; x[::-1]; x|reverse; x is lower; '%s' % x; \
             x.join('ab'); x.center(3000009); x.expandtabs(); x|indent; x.translate({97: 'b'}); x|trim('ab ')",
        ),
        (
            many,
            "l|sort; l|unique|list; l|join; l|sum; l|max; l|tojson; l|string; l|map('string')|list; \
             l|select('odd')|list; l|batch(3)|list; l|groupby('real'); dict.fromkeys(l); -1 in l; \
             l.count(5); l == l + []; l[::-1]; l + l; l * 9",
        ),
    ];
    let asked = |source: &str| {
        let asked = Asked(AtomicUsize::new(0));
        let options = RenderOptions::default().with_cancel(&asked);
        let limits =
            DEFAULT().with_steps(u64::MAX).with_memory(1 << 28).with_time(Duration::from_secs(999));
        let template = Template::parse_with(source, &limits).unwrap();
        template.render_with(&[], &options).unwrap();
        asked.0.into_inner()
    };
    for (start, all) in operations {
        let before = asked(start);
        let times = |operation| asked(&format!("{start}{{% set y = {operation} %}}")) - before;
        let all = all.split("; ").map(|operation| (operation, times(operation)));
        let few: Vec<_> = all.filter(|&(_, times)| times < 2).collect();
        assert!(few.is_empty(), "{few:?}");
    }
}

#[test]
fn variables_count_as_values() {
    let template = Template::parse("{{ x|length }}").unwrap();
    let text = Json::from("a".repeat(1 << 20));
    let options = RenderOptions::default().with_limits(DEFAULT().with_memory(1 << 19));
    let e = template.render_with(&[("x", &text)], &options).unwrap_err();
    assert_eq!(e.kind, TemplateErrorKind::Limit(LimitKind::Memory(1 << 19)));
    let mut deep = Json::Null;
    for _ in 0..120 {
        deep = Json::Array(vec![deep]);
    }
    let e = template.render(&[("x", &deep)]).unwrap_err();
    assert_eq!(e.kind, TemplateErrorKind::Limit(LimitKind::Depth(100)));
}
