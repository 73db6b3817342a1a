//! Templates that people reported to other engines, and jinja2's text of each, as transformers sets it up.

use crate::common::{refuses, renders};

#[test]
fn none_is_not_iterable_and_undefined_is() {
    renders(&[
        (
            "{%- if tools is iterable and tools | length > 0 %}TOOLS{% endif %}{{ messages[0].content }}",
            "hi",
        ),
        ("{% if not tools is iterable %}{{ messages[0].content }}{% endif %}", "hi"),
        (
            "{% if documents is iterable and documents|length > 0 %}D{% endif %}{{ messages[0].content }}",
            "hi",
        ),
        (
            "{% if content is undefined and content is iterable %}X{% endif %}{{ messages[0].content }}",
            "Xhi",
        ),
        ("{% if messages[0].tool_calls is iterable %}X{% endif %}{{ messages[0].content }}", "Xhi"),
        (
            "{% if tools is not none and tools is iterable %}T{% endif %}{{ none is iterable }}{{ (none or []) is iterable }}{{ nothing is iterable }}{{ 0 is iterable }}{{ true is iterable }}",
            "FalseTrueTrueFalseFalse",
        ),
        ("{% for t in nothing %}x{% else %}empty{% endfor %}", "empty"),
        ("{% for t in tools or [] %}x{% else %}empty{% endfor %}", "empty"),
    ]);
    refuses(&[
        "{% for t in tools %}x{% endfor %}", // TypeError
        "{{ tools|length }}",                // TypeError
        "{{ tools|list }}",                  // TypeError
    ]);
}

#[test]
fn undefined_has_length_0() {
    renders(&[
        ("{% if messages[0].tool_calls|length > 0 %}X{% endif %}{{ messages[0].content }}", "hi"),
        ("{% if system_prompt|length == 0 %}{{ messages[0].content }}{% endif %}", "hi"),
        ("{{ xtra|length }}", "0"),
        ("{{ xtra|list|length }}", "0"),
        ("{{ xtra|join(',') }}|", "|"),
        ("{{ xtra|trim }}|{{ xtra|upper }}|{{ xtra|string }}|", "|||"),
        (
            "{{ xtra|first is undefined }}{{ xtra|last is undefined }}{{ xtra|count }}{{ xtra|wordcount }}",
            "TrueTrue00",
        ),
        ("{{ 'a' in xtra }}", "False"),
        (
            "{{ xtra == '' }} {{ xtra ~ 'a' }}{{ xtra|default('d') }}{{ xtra|e }}{{ xtra|reverse|list }}{{ xtra|replace('a', 'b') }}",
            "False ad[]",
        ),
        (
            "{{ xtra|sort }}{{ xtra|map('upper')|list }}{{ xtra|unique|list }}{{ xtra|sum }}",
            "[][][]0",
        ),
    ]);
    refuses(&[
        "{{ xtra|int }}",      // UndefinedError
        "{{ xtra|float }}",    // UndefinedError
        "{{ xtra|abs }}",      // TypeError
        "{{ xtra.y|length }}", // UndefinedError
    ]);
}

#[test]
fn dictionaries_are_in_the_order_of_insertion() {
    renders(&[
        (
            "{% set r = {'system': 'S', 'assistant': 'A', 'user': 'U'} %}{{ r.keys()|join(',') }}",
            "system,assistant,user",
        ),
        ("{{ messages[0]|tojson }}", "{\"role\": \"user\", \"content\": \"hi\"}"),
        (
            "{{ {'type': 'function', 'name': 'f'}|tojson }}",
            "{\"type\": \"function\", \"name\": \"f\"}",
        ),
        (
            "{% set ns = namespace(t='') %}{% for k, v in {'z': 1, 'a': 2}.items() %}{% set ns.t = ns.t + k %}{% endfor %}{{ ns.t }}",
            "za",
        ),
        ("{{ {'b':1,'a':2}|string }}", "{'b': 1, 'a': 2}"),
        ("{{ {'b':1,'a':2}|items|list|string }}", "[('b', 1), ('a', 2)]"),
        ("{{ ({'b':1,'a':2}|first) }}", "b"),
        (
            "{{ {'b':1,'a':2}|list }}{{ {'b':1,'a':2}.values()|list }}{{ {'b':1,'a':2}|last }}{{ {'b':1,'a':2}|join }}{{ {'b':1,'a':2}|length }}",
            "['b', 'a'][1, 2]aba2",
        ),
        (
            "{{ dict(b=1, a=2) }}{{ dict({'z': 1}, y=2, x=3) }}{{ {'b':1,'a':2}|tojson(indent=2) }}{{ {'b': {'d': 1, 'c': 2}, 'a': 2}|tojson(sort_keys=true) }}",
            "{'b': 1, 'a': 2}{'z': 1, 'y': 2, 'x': 3}{\n  \"b\": 1,\n  \"a\": 2\n}{\"a\": 2, \"b\": {\"c\": 2, \"d\": 1}}",
        ),
        (
            "{{ messages[1].tool_calls[0].function.arguments|tojson }}{% for k in messages[1].tool_calls[0].function.arguments %}{{ k }}{% endfor %}",
            "{\"z\": 1, \"a\": [true, null, 2.5]}za",
        ),
        (
            "{% for k, v in messages[1].tool_calls[0].function.arguments|items %}{{ k }}={{ v }};{% endfor %}{{ messages[1].tool_calls[0].function.arguments|dictsort }}",
            "z=1;a=[True, None, 2.5];[('a', [True, None, 2.5]), ('z', 1)]",
        ),
        (
            "{{ '%s' % {'b':1,'a':2} }}{{ '{}'.format({'b':1,'a':2}) }}{{ {'b':1,'a':2} ~ '' }}{{ [{'b':1,'a':2}] }}",
            "{'b': 1, 'a': 2}{'b': 1, 'a': 2}{'b': 1, 'a': 2}[{'b': 1, 'a': 2}]",
        ),
    ]);
}

#[test]
fn templates_may_call_what_python_has() {
    renders(&[
        ("{{ 'a{}'.format(1) }}{{ '%s' % 'a' }}{{ '%s-%d' % ('a', 3) }}", "a1aa-3"),
        (
            "{{ 'abc'.zfill(5) }}{{ 'a'.ljust(3) }}{{ 'a-b'.partition('-')[0] }}{{ 'p_x'.removeprefix('p_') }}{{ 'x.t'.removesuffix('.t') }}",
            "00abca  axx",
        ),
        (
            "{{ 'abc'.index('b') }}{{ ' '.isspace() }}{{ 'A'.isupper() }}{{ 'a b c'.split(None, 1) }}{{ 'a b'.split(maxsplit=1) }}",
            "1TrueTrue['a', 'b c']['a', 'b']",
        ),
        (
            "{{ 'abc'.startswith('b', 1) }}{{ 'abcabc'.find('c', 3) }}{{ none|default('d', boolean=true) }}{{ 'x'|int }}",
            "True5d0",
        ),
        ("{{ 'aba'|replace('a','c',1) }}{{ 'a'|urlencode }}{{ 'a b'|wordcount }}", "cbaa2"),
        (
            "{{ [1,2].index(2) }}{{ {'a':1}.copy() }}{{ strftime_now('%D') }}{{ strftime_now('%x') }}{{ strftime_now('%c') }}",
            "1{'a': 1}11/30/2611/30/26Mon Nov 30 00:53:20 2026",
        ),
        (
            "{% macro f() %}x{% endmacro %}{{ f is callable }}{{ joiner is defined }}{{ cycler is defined }}{{ namespace is callable }}",
            "TrueTrueTrueTrue",
        ),
        (
            "{{ 'é'|tojson(ensure_ascii=true) }}{{ {'a':1}|tojson(separators=(',',':')) }}{{ 'a<\"'|e }}{{ '٣'.isdigit() }}",
            "\"\\u00e9\"{\"a\":1}a&lt;&#34;True",
        ),
        (
            "{{ 1e20 }} {{ 1e16 }} {{ 123456789012345680.0 }} {{ 0.1 }} {{ 1e-5 }} {{ 100.0 }} {{ 2.50 }} {{ -0.0 }} {{ 5e-324 }} {{ 1.7976931348623157e308 }}",
            "1e+20 1e+16 1.2345678901234568e+17 0.1 1e-05 100.0 2.5 -0.0 5e-324 1.7976931348623157e+308",
        ),
        (
            "{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, x=4) }}",
            "1(2, 3){'x': 4}",
        ),
    ]);
    refuses(&[
        "{{ 'abc'|truncate(2) }}", // AssertionError
    ]);
}

#[test]
fn line_ends_of_templates_are_line_feeds() {
    renders(&[
        ("a\r\nb\r\nc", "a\nb\nc"),
        ("a\rb\rc", "a\nb\nc"),
        ("a\r\n\r\nb\n\rc\r", "a\n\nb\n\nc"),
        ("{% if true %}\r\na\r\n{% endif %}\r\nb", "a\nb"),
        ("{{ 'a\r\nb' }}{{ '\\r\\n'|length }}", "a\nb2"),
        ("{# c\r\n #}\r\nx{% raw %}\r\n{% endraw %}", "x\n"),
        ("{{ text }}\r\n{{- odd|length }}", "Hello, World9"),
    ]);
}

#[test]
fn strings_and_mappings_are_sequences() {
    renders(&[
        ("{{ 'a' is sequence }}{{ {} is sequence }}", "TrueTrue"),
        (
            "{{ messages is sequence }}{{ messages[0] is sequence }}{{ messages[0].content is sequence }}{{ 5 is sequence }}{{ none is sequence }}{{ nothing is sequence }}{{ range(3) is sequence }}{{ (1, 2) is sequence }}{{ {}.items() is sequence }}{{ [1]|map('string') is sequence }}{{ ('a'|safe) is sequence }}{{ true is sequence }}",
            "TrueTrueTrueFalseFalseTrueTrueTrueFalseFalseTrueFalse",
        ),
        (
            "{{ 'a' is mapping }}{{ {} is mapping }}{{ [] is mapping }}{{ 'a' is string }}{{ 'a' is iterable }}{{ namespace() is mapping }}",
            "FalseTrueFalseTrueTrueFalse",
        ),
    ]);
}

#[test]
fn white_space_is_that_of_python() {
    renders(&[
        (
            "{{ ' x\\x1c'.strip() }}|{{ '\\x1c\\x1d\\x1e\\x1fx'.lstrip() }}|{{ 'x\\x85'.rstrip() }}|{{ 'x\\x00'.strip()|length }}",
            "x|x|x|2",
        ),
        (
            "{{ 'a\\x1cb c\\u2003d\\u200be'.split() }}{{ ' x\\x1c'|trim }}|{{ '\\u00a0\\u3000x\\ufeff'|trim|length }}",
            "['a', 'b', 'c', 'd\\u200be']x|2",
        ),
        (
            "{{ '\\x1c'.isspace() }}{{ '\\u200b'.isspace() }}{{ '\\x85'.isspace() }}{{ 'a\\x1fb'|wordcount }}",
            "TrueFalseTrue2",
        ),
        ("{{ odd.strip()|length }}{{ odd|length }}", "89"),
    ]);
}

#[test]
fn text_beside_safe_text_is_escaped() {
    renders(&[
        ("{{ (\"Tom's <b>\"|safe) + \"<i>'\" }}", "Tom's <b>&lt;i&gt;&#39;"),
        ("{{ 'Say '|safe + \"Tom's <b>\" }}", "Say Tom&#39;s &lt;b&gt;"),
        (
            "{{ \"Tom's <b>\" + 'x'|safe }}{{ ('<'|safe) ~ '<' }}{{ '<' ~ ('<'|safe) }}{{ ['<', '<'|safe]|join }}{{ ['<']|join('<'|safe) }}",
            "Tom&#39;s &lt;b&gt;x<<<<<<<",
        ),
        (
            "{{ ('<'|safe) + ('>'|safe) }}{{ ('<'|safe) * 2 + '<' }}{{ ('<%s>'|safe) % '<' }}{{ ('<'|safe).join(['<']) }}{{ ('<'|e) + '&' }}",
            "<><<&lt;<&lt;>&lt;&lt;&amp;",
        ),
        (
            "{% set x %}<{{ '>' }}{% endset %}{{ x + '<' }}{% macro m() %}<{% endmacro %}{{ m() + '<' }}{% set y = 'a<'|safe %}{{ y|upper + '<' }}{{ y|trim + '<' }}{{ y|string + '<' }}{{ y[:1] + '<' }}",
            "<><<<A<&lt;a<&lt;a<&lt;a&lt;",
        ),
    ]);
}

#[test]
fn lines_are_split_as_python_splits_them() {
    renders(&[
        ("{{ 'a\\rb\\x0bc\\u2028d'.splitlines()|length }}", "4"),
        (
            "{{ 'a\\x0bb'.splitlines() }}{{ 'a\\n\\nb\\r\\nc'.splitlines() }}{{ 'a\\x1cb\\x1dc\\x1ed\\x1fe\\x85f\\u2029g\\x0ch'.splitlines() }}{{ ''.splitlines() }}{{ '\\n'.splitlines() }}{{ 'a\\n'.splitlines(true) }}{{ 'a\\r\\nb'.splitlines(keepends=true) }}",
            "['a', 'b']['a', '', 'b', 'c']['a', 'b', 'c', 'd\\x1fe', 'f', 'g', 'h'][]['']['a\\n']['a\\r\\n', 'b']",
        ),
        ("{{ odd.splitlines() }}", "['a', 'b', 'c', 'd']"),
        ("{{ 'a\\x0bb\\n c'|indent }}", "a\n    b\n     c"),
    ]);
}
