//! Statements, expressions and white space, with what jinja2 3.1.6 makes of them as transformers sets
//! it up.

use crate::common::{refuses, renders};

#[test]
fn whitespace_is_trimmed_as_by_transformers() {
    renders(&[
        ("a\r\nb\rc\n", "a\nb\nc"),
        ("{% if true %}\n a\n{% endif %}\nb\n\n", " a\nb\n"),
        ("  {% set x = 1 %}  \nx", "  \nx"),
        ("{%+ if true %}a{% endif +%}\nb", "a\nb"),
        ("{% for i in [1] -%}\n  a\n{%- endfor %}\n", "a"),
        ("x\n  {# c #}\ny", "x\ny"),
        ("x\n  {#- c -#}\n  y{#+ d +#}\nz", "xy\nz"),
        ("{{ 1 }}\n{{ 2 }}\n", "1\n2"),
        ("   {{ 1 }}", "   1"),
        ("  {{- 1 -}}  \n x", "1x"),
        ("{% raw %}\n {{ a }} {% endraw %}\nb", "\n {{ a }} b"),
        ("  {%- raw -%}  a {% x %} {%- endraw -%}  b", "a {% x %}b"),
        ("a \u{1c}{%- if true %}b{% endif %}", "ab"),
    ]);
    refuses(&[
        "{{ 1",       // TemplateSyntaxError
        "{# a",       // TemplateSyntaxError
        "{% raw %}a", // TemplateSyntaxError
        "{{ } }}",    // TemplateSyntaxError
    ]);
}

#[test]
fn branches_and_loops() {
    renders(&[
        ("{% if false %}a{% elif number > 5 %}b{% else %}c{% endif %}", "b"),
        (
            "{% for i in range(3) %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }};{% endfor %}",
            "1032TrueFalse310;2121FalseFalse310;3210FalseTrue310;",
        ),
        (
            "{% for i in 'abc' %}{{ loop.previtem }}{{ i }}{{ loop.nextitem }}{{ loop.cycle('x', 'y') }}{{ loop.changed(loop.index0 // 2) }};{% endfor %}",
            "abxTrue;abcyFalse;bcxTrue;",
        ),
        ("{% for i in [] %}x{% else %}none{% endfor %}", "none"),
        ("{% for i in nothing %}x{% else %}none{% endfor %}", "none"),
        ("{% for i in [1] %}{% break %}{% else %}else{% endfor %}", "else"),
        ("{% for i in [1] %}{% continue %}{% else %}else{% endfor %}", "else"),
        (
            "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}{{ i }}{% endfor %}",
            "023",
        ),
        (
            "{% for i in [1, 2, 3, 4] if i % 2 == 0 %}{{ i }}{{ loop.index }}{{ loop.last }}{{ loop.length }}{% endfor %}",
            "21False242True2",
        ),
        ("{% for k, v in {'z': 1, 'a': 2}.items() %}{{ k }}={{ v }};{% endfor %}", "z=1;a=2;"),
        ("{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "123"),
        (
            "{% for x in [1, [2, [3]]] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}@{{ loop.depth }}{% endif %}{% endfor %}",
            "1@1(2@2(3@3))",
        ),
        (
            "{% for i in [1, 2] %}{% for j in [loop.index, loop.last] %}{{ loop.index }}{{ j }}{% endfor %}{{ loop.index }};{% endfor %}",
            "112False1;122True2;",
        ),
    ]);
    refuses(&[
        "{% for a, b in [(1, 2, 3)] %}{% endfor %}", // ValueError
        "{% for i in none %}{% endfor %}",           // TypeError
        "{% for i in 5 %}{% endfor %}",              // TypeError
        "{% for loop in [1] %}{% endfor %}",         // TemplateAssertionError
        "{% break %}",                               // SyntaxError
        "{% for i in [1] %}{{ loop(1) }}{% endfor %}", // TypeError
        "{% for i in [1] %}{% generation %}{% break %}{% endgeneration %}{% endfor %}", // SyntaxError
    ]);
}

#[test]
fn names_have_scopes() {
    renders(&[
        (
            "{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = i %}{{ x }}{% endfor %}{{ x }}",
            "11121",
        ),
        ("{% if true %}{% set x = 5 %}{% endif %}{{ x }}", "5"),
        ("{% if false %}{% set x = 5 %}{% endif %}{{ x is defined }}{{ x }}", "False"),
        ("{% if false %}{% set number = 5 %}{% endif %}{{ number }}", "7"),
        ("{% set a, b = 1, 2 %}{% set b, a = a, b %}{{ a }}{{ b }}", "21"),
        (
            "{% set ns = namespace(a=1, b='x') %}{% for i in [1, 2] %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}{{ ns['b'] }}{{ ns }}{{ ns.c is defined }}",
            "4x<Namespace {'a': 4, 'b': 'x'}>False",
        ),
        (
            "{% set ns = namespace({'items': 1}) %}{{ ns.items }}{% set ns.self = ns %}{{ ns }}",
            "1<Namespace {'items': 1, 'self': <Namespace {...}>}>",
        ),
        (
            "{% set x %}a{{ 1 }}{% endset %}{{ x }}{% set y | upper | replace('A', 'Z') %}abc{% endset %}{{ y }}",
            "a1ZBC",
        ),
        (
            "{% with a = 1, b = number %}{{ a }}{{ b }}{% set number = 8 %}{{ number }}{% endwith %}{{ number }}{{ a }}",
            "1787",
        ),
        ("{% set a = 1 %}{% with a = 2, b = a %}{{ a }}{{ b }}{% endwith %}", "21"),
        ("{% macro m() %}{{ late }}{% endmacro %}{{ m() }}{% set late = 1 %}{{ m() }}", "1"),
        ("{% for i in [1] %}{{ number }}{% endfor %}{% set number = 9 %}", ""),
    ]);
    refuses(&[
        "{% set d = {} %}{% set d.x = 1 %}", // TemplateRuntimeError
        "{% set ns = namespace() %}{% set ns._x = 1 %}", // SecurityError
        "{{ namespace(_x=1) }}",             // SecurityError
        "{% set true = 1 %}",                // TemplateSyntaxError
        "{% set 'a' = 1 %}",                 // TemplateSyntaxError
    ]);
}

#[test]
fn macros_take_arguments_as_functions_do() {
    renders(&[
        (
            "{% macro m(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}|{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1) }}{{ m(1, 2, 3, 4, x=5) }}{{ m(b=3) }}{{ m(*[1, 2], **{'y': 1}) }}",
            "121|(){}123|(4,){'x': 5}3|(){}121|(){'y': 1}",
        ),
        (
            "{% macro m(a) %}{{ a }}{% endmacro %}{{ m }}{{ m.name }}{{ m.arguments }}{{ m() }}{{ m is callable }}",
            "<Macro 'm'>m('a',)True",
        ),
        (
            "{% macro m(a) %}<{{ caller(a, 'z') }}>{% endmacro %}{% call(x, y='d') m('q') %}[{{ x }}{{ y }}]{% endcall %}",
            "<[qz]>",
        ),
        ("{% macro m() %}{{ caller is defined }}{{ caller }}{% endmacro %}{{ m() }}", "False"),
        (
            "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(90) }}",
            "9089888786858483828180797877767574737271706968676665646362616059585756555453525150494847464544434241403938373635343332313029282726252423222120191817161514131211109876543210",
        ),
        (
            "{% macro outer(x) %}{% macro inner() %}{{ x }}{% endmacro %}{{ inner() }}{% endmacro %}{{ outer(1) }}{{ outer(2) }}",
            "12",
        ),
        ("{% generation %}a{{ number }}{% endgeneration %}b", "a7b"),
        (
            "{% filter upper %}abc{{ 'd' }}{% endfilter %}{% filter replace('a', 'b') | upper %}aa{% endfilter %}",
            "ABCDBB",
        ),
    ]);
    refuses(&[
        "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", // TypeError
        "{% macro m(a) %}{% endmacro %}{{ m(b=2) }}",  // TypeError
        "{% macro m(a, a) %}{% endmacro %}",           // SyntaxError
        "{% macro m(a=1, b) %}{% endmacro %}",         // TemplateSyntaxError
        "{% macro m(a) %}{% endmacro %}{{ m(a=1, a=2) }}", // SyntaxError
        "{% call number %}{% endcall %}",              // TemplateSyntaxError
        "{% filter length %}abc{% endfilter %}",       // TypeError
    ]);
}

#[test]
fn blocks_and_other_templates() {
    renders(&[
        ("{% block a %}x{{ number }}{% endblock %}{{ self.a() }}", "x7x7"),
        (
            "{% set y = 3 %}{% block a %}{{ y }}{% endblock %}{% for i in [1, 2] %}{% block b scoped %}{{ i }}{% endblock %}{% block c %}{{ i }}{% endblock %}{% endfor %}",
            "312",
        ),
        (
            "{% if false %}{% include 'x' %}{% extends 'y' %}{% import 'z' as z %}{% endif %}ok",
            "ok",
        ),
        ("{% if false %}{{ 1 | nope }}{{ 1 is nope }}{% endif %}ok", "ok"),
        (
            "{% autoescape true %}{{ '<' }}{{ '<'|safe }}{{ '<' ~ ('>'|safe) }}{% endautoescape %}{{ '<' }}",
            "&lt;<&lt;&gt;<",
        ),
    ]);
    refuses(&[
        "{% include 'x' %}",                                      // TypeError
        "{% extends 'x' %}",                                      // TypeError
        "{% import 'x' as y %}",                                  // TypeError
        "{% from 'x' import y %}",                                // TypeError
        "{{ 1 | nope }}",                                         // TemplateAssertionError
        "{{ 1 is nope }}",                                        // TemplateAssertionError
        "{% nope %}",                                             // TemplateSyntaxError
        "{% do 1 %}",                                             // TemplateSyntaxError
        "{% block a %}{% endblock %}{% block a %}{% endblock %}", // TemplateAssertionError
        "{% block a required %}{% endblock %}",                   // TemplateRuntimeError
    ]);
}

#[test]
fn operators_bind_as_in_jinja() {
    renders(&[
        (
            "{{ 1 < 2 < 3 }}{{ 1 < 3 < 2 }}{{ 1 in [1] }}{{ 1 not in [1] }}{{ not 1 == 2 }}{{ 1 and 0 }}{{ 0 or 'x' }}{{ 1 if 0 }}{{ 1 if 0 else 2 }}",
            "TrueFalseTrueFalseTrue0x2",
        ),
        (
            "{{ (1, 2) }}{{ () }}{{ (1,) }}{{ 1, 2 }}{{ [1, 2,] }}{{ {'a': 1,} }}",
            "(1, 2)()(1,)(1, 2)[1, 2]{'a': 1}",
        ),
        ("{{ 'a' 'b' }}{{ \"\\u00e9\\x41\\101\\n\\q\" }}", "abéAA\n\\q"),
        (
            "{{ number is odd and number is not even }}{{ number is divisibleby 7 }}{{ none is none }}",
            "TrueTrueTrue",
        ),
        (
            "{{ [1, 2, 3][1:] }}{{ [1, 2, 3][::-1] }}{{ 'abc'[-2:] }}{{ [1, 2, 3].0 }}{{ (1, 2)[1] }}",
            "[2, 3][3, 2, 1]bc12",
        ),
        (
            "{{ true }}{{ True }}{{ none }}{{ None }}{{ 1_000 }}{{ 0x1f }}{{ 0b11 }}{{ 0o17 }}{{ 1e3 }}{{ 1.5e-7 }}",
            "TrueTrueNoneNone1000313151000.01.5e-07",
        ),
    ]);
    refuses(&[
        "{{ 2 ** 3 ** 2 }} {{ -2 ** 2 }} {{ -3|abs }} {{ 1 + 2 ~ 3 + 4 }} {{ 'a' ~ 1 + 2 }} {{ 7 - 2 - 1 }} {{ 2 * 3 % 4 }}", // TypeError
        "{{ 1 + }}",              // TemplateSyntaxError
        "{{ 1 2 }}",              // TemplateSyntaxError
        "{{ 007 }}",              // TemplateSyntaxError
        "{{ a b }}",              // TemplateSyntaxError
        "{{ 1 is odd is even }}", // TemplateSyntaxError
        "{{ f(1, a=2, 3) }}",     // TemplateSyntaxError
        "{{ 'a }}",               // TemplateSyntaxError
        "{{ ! }}",                // TemplateSyntaxError
        "{{ x[1:2, 3] }}",        // SyntaxError
    ]);
}

#[test]
fn undefined_values_behave_as_jinja_s() {
    renders(&[
        (
            "{{ nothing }}|{{ nothing|length }}|{{ nothing|list }}|{{ nothing|join(',') }}|{{ nothing|upper }}|{{ nothing|string }}|{{ nothing|trim }}",
            "|0|[]||||",
        ),
        (
            "{{ nothing == '' }}{{ nothing == nothing2 }}{{ nothing is iterable }}{{ nothing is sequence }}{{ nothing is defined }}{{ not nothing }}{{ 'a' in nothing }}{{ [nothing] }}",
            "FalseTrueTrueTrueFalseTrueFalse[Undefined]",
        ),
        (
            "{{ messages[0].nothing is defined }}{{ messages[0]['nothing'] is none }}{{ list[9] is undefined }}{{ none.a is defined }}{{ nothing|first is undefined }}",
            "FalseFalseTrueFalseTrue",
        ),
        (
            "{{ nothing|default('d') }}{{ ''|default('d') }}{{ ''|default('d', true) }}{{ none|default('d', boolean=true) }}{{ nothing.a|default('x') if nothing }}",
            "ddd",
        ),
        (
            "{{ tools is iterable }}{% if documents is iterable and documents|length > 0 %}D{% endif %}{{ messages[0].tool_calls|length }}",
            "False0",
        ),
        ("{{ 'a' ~ nothing }}{{ '%s' % nothing }}{{ '{}'.format(nothing) }}", "a"),
    ]);
    refuses(&[
        "{{ nothing.a }}",        // UndefinedError
        "{{ nothing['a'] }}",     // UndefinedError
        "{{ nothing() }}",        // UndefinedError
        "{{ nothing + 1 }}",      // UndefinedError
        "{{ 1 + nothing }}",      // UndefinedError
        "{{ nothing < 1 }}",      // UndefinedError
        "{{ -nothing }}",         // UndefinedError
        "{{ nothing|int }}",      // UndefinedError
        "{{ nothing|tojson }}",   // TypeError
        "{{ nothing in 'abc' }}", // TypeError
        "{{ messages[0].a.b }}",  // UndefinedError
    ]);
}

#[test]
fn the_sandbox_is_that_of_jinja() {
    renders(&[
        (
            "{{ ''.__class__ }}{{ [].append is defined }}{{ {}.update is defined }}{{ {}.items is defined }}{{ {'items': 1}.items is callable }}{{ {'items': 1}['items'] }}",
            "FalseFalseTrueTrue1",
        ),
        ("{{ {'_a': 1}._a }}{{ {'__x__': 1}.__x__ }}", "11"),
    ]);
    refuses(&[
        "{{ [].append(1) }}",                       // SecurityError
        "{{ {}.pop('a') }}",                        // SecurityError
        "{{ ''.__class__.__mro__ }}",               // SecurityError
        "{{ '{0.__class__.__name__}'.format(1) }}", // SecurityError
        "{{ range(100001) }}",                      // OverflowError
        "{{ raise_exception('no') }}",              // TemplateError
    ]);
}
