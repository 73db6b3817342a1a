//! Filters, tests and functions.

use crate::common::{refuses, renders};

#[test]
fn lists_are_filtered() {
    renders(&[
        (
            "{{ list|sort }}{{ list|sort(reverse=true) }}{{ ['b', 'A']|sort }}{{ ['b', 'A']|sort(case_sensitive=true) }}{{ people[:2]|sort(attribute='age') }}{{ people|sort(attribute='name')|map(attribute='name')|list }}",
            "[1, 2, 3][3, 2, 1]['A', 'b']['A', 'b'][{'name': 'Bob', 'age': 25}, {'name': 'ann', 'age': 30}]['ann', 'Bob', 'cy']",
        ),
        (
            "{{ list|sum }}{{ list|max }}{{ list|min }}{{ list|first }}{{ list|last }}{{ list|length }}{{ list|reverse|list }}{{ list|join('-') }}{{ people|map(attribute='age', default=0)|sum }}{{ people|join(',', attribute='name') }}",
            "631323[2, 1, 3]3-1-255ann,Bob,cy",
        ),
        (
            "{{ people|selectattr('age')|map(attribute='name')|list }}{{ people|selectattr('age', 'defined')|list|length }}{{ people|rejectattr('age', 'equalto', 30)|list|length }}{{ range(6)|select('odd')|list }}{{ range(6)|reject('gt', 2)|list }}{{ ['a', '']|select|list }}",
            "['ann', 'Bob']22[1, 3, 5][0, 1, 2]['a']",
        ),
        (
            "{{ ['a', 'b']|map('upper')|list }}{{ [1, 2]|map('string')|join }}{{ people|map(attribute='name')|map('upper')|first }}{{ [[1, 2]]|map(attribute=0)|list }}",
            "['A', 'B']12ANN[1]",
        ),
        (
            "{{ [1, 1.0, 'a', 'A', 2]|unique|list }}{{ [1, 2, 3, 4, 5]|batch(2, 0)|list }}{{ [1, 2, 3, 4, 5]|slice(2)|list }}{{ people|groupby('name')|map('first')|list }}{% for g in people[:2]|groupby('age') %}{{ g.grouper }}{{ g.list }}{% endfor %}",
            "[1, 'a', 2][[1, 2], [3, 4], [5, 0]][[1, 2, 3], [4, 5]]['ann', 'Bob', 'cy']25[{'name': 'Bob', 'age': 25}]30[{'name': 'ann', 'age': 30}]",
        ),
        (
            "{{ 'abc'|list }}{{ {'a': 1}|list }}{{ range(3)|list }}{{ range(9, 0, -3)|list }}{{ range(10)[2:8:3] }}{{ []|first is undefined }}{{ [[1, 2], [3]]|sum(start=[]) }}{{ 'x'|attr('upper') is callable }}",
            "['a', 'b', 'c']['a'][0, 1, 2][9, 6, 3]range(2, 8, 3)True[1, 2, 3]True",
        ),
    ]);
    refuses(&[
        "{{ [1, 'a']|sort }}",                    // TypeError
        "{{ [1, 2]|map('nope')|list }}",          // TemplateRuntimeError
        "{{ [1]|selectattr('a', 'nope')|list }}", // TemplateRuntimeError
        "{{ 5|list }}",                           // TypeError
        "{{ 5|length }}",                         // TypeError
        "{{ [{}]|unique|list }}",                 // TypeError
        "{{ [1]|map|list }}",                     // FilterArgumentError
    ]);
}

#[test]
fn texts_are_filtered() {
    renders(&[
        (
            "{{ 'hello world-wide'|title }}{{ 'hELLO'|capitalize }}{{ text|upper }}{{ text|lower }}{{ ' x '|trim }}{{ 'xax'|trim('x') }}{{ text|wordcount }}{{ text|replace('l', 'L', 1) }}{{ 5|replace('5', 'x') }}{{ 'x'|center(5) }}|",
            "Hello World-WideHelloHELLO, WORLDhello, worldxa2HeLlo, Worldx  x  |",
        ),
        (
            "{{ 'foo bar baz'|truncate(9) }}{{ 'foo bar baz qux'|truncate(9) }}{{ 'foo bar baz qux'|truncate(9, true) }}{{ 'foo bar baz qux'|truncate(11, false, '-', 0) }}{{ 'a b c d'|wordwrap(3) }}{{ 'abcdef-gh'|wordwrap(4) }}",
            "foo bar bazfoo...foo ba...foo bar-a b\nc dabcd\nef-\ngh",
        ),
        (
            "{{ 'a\\n\\nb'|indent }}|{{ 'a\\n\\nb'|indent(2, true, true) }}|{{ 'a\\nb'|indent('> ', first=true) }}",
            "a\n\n    b|  a\n  \n  b|> a\n> b",
        ),
        (
            "{{ 'a/ é&'|urlencode }}{{ {'a': 1, 'b': 'x y/'}|urlencode }}{{ 1000|filesizeformat }}{{ 1|filesizeformat }}{{ 123456789|filesizeformat(true) }}{{ none|string }}{{ [1, 'a']|string }}{{ {'b': 1, 'a': 2}|pprint }}",
            "a/%20%C3%A9%26a=1&b=x+y%2F1.0 kB1 Byte117.7 MiBNone[1, 'a']{'a': 2, 'b': 1}",
        ),
    ]);
    refuses(&[
        "{{ 'abc'|truncate(2) }}",  // AssertionError
        "{{ none|indent }}",        // TypeError
        "{{ 'a'|upper(1) }}",       // TypeError
        "{{ {'a b': 1}|xmlattr }}", // ValueError
    ]);
}

#[test]
fn json_is_that_of_python() {
    renders(&[
        (
            "{{ {'a': [1, 2.5, true, none], 'b': '<é\\n\"\\\\\\x1f/'}|tojson }}{{ {'a': [1, {}], 'b': []}|tojson(indent=2) }}{{ [1, [2]]|tojson(indent=0) }}{{ [1]|tojson(indent='->') }}",
            "{\"a\": [1, 2.5, true, null], \"b\": \"<é\\n\\\"\\\\\\u001f/\"}{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": []\n}[\n1,\n[\n2\n]\n][\n->1\n]",
        ),
        (
            "{{ {'b': 1, 'a': 2}|tojson(sort_keys=true) }}{{ {'a': [1, 2]}|tojson(separators=(',', ':')) }}{{ 'é😀\\x7f'|tojson(ensure_ascii=true) }}{{ {1: 2, none: 3, true: 4, 1.5: 5}|tojson }}{{ (1, 2)|tojson }}{{ 1e20|tojson }}{{ 'x'|tojson(true) }}{{ 12345678901234567890|tojson }}",
            "{\"a\": 2, \"b\": 1}{\"a\":[1,2]}\"\\u00e9\\ud83d\\ude00\\u007f\"{\"1\": 4, \"null\": 3, \"1.5\": 5}[1, 2]1e+20\"x\"12345678901234567890",
        ),
        ("{{ [('inf'|float), ('nan'|float)]|tojson }}", "[Infinity, NaN]"),
    ]);
    refuses(&[
        "{{ range(3)|tojson }}",                       // TypeError
        "{{ {(1, 2): 3}|tojson }}",                    // TypeError
        "{{ {'a': 1, 1: 2}|tojson(sort_keys=true) }}", // TypeError
    ]);
}

#[test]
fn values_are_tested() {
    renders(&[
        (
            "{{ 5 is odd }}{{ 4 is even }}{{ 5 is number }}{{ true is number }}{{ 5.0 is float }}{{ 5 is integer }}{{ true is integer }}{{ true is boolean }}{{ false is false }}{{ 'a' is string }}{{ {} is mapping }}{{ [] is sequence }}{{ 'a' is sequence }}{{ {} is sequence }}{{ none is sequence }}",
            "TrueTrueTrueTrueTrueTrueFalseTrueTrueTrueTrueTrueTrueTrueFalse",
        ),
        (
            "{{ none is iterable }}{{ 'a' is iterable }}{{ 5 is iterable }}{{ {} is iterable }}{{ 'a' is in 'abc' }}{{ 1 is in [1] }}{{ 1 is eq 1 }}{{ 1 is ne(1) }}{{ 1 is lt 2 }}{{ 1 is ge 2 }}{{ 'A' is upper }}{{ 'a' is lower }}{{ '1' is lower }}{{ none is sameas none }}{{ [] is sameas [] }}",
            "FalseTrueFalseTrueTrueTrueTrueFalseTrueFalseTrueTrueFalseTrueFalse",
        ),
        (
            "{{ 'upper' is filter }}{{ 'nope' is filter }}{{ 'odd' is test }}{{ range is callable }}{{ nothing is callable }}{{ 5 is callable }}{{ '<'|safe is escaped }}{{ nothing is defined }}{{ joiner is defined }}",
            "TrueFalseTrueTrueTrueFalseTrueFalseTrue",
        ),
    ]);
    refuses(&[
        "{{ 'a' is odd }}",         // TypeError
        "{{ 1 is divisibleby 0 }}", // ZeroDivisionError
        "{{ 1 is eq }}",            // TypeError
        "{{ 1 is in 5 }}",          // TypeError
    ]);
}

#[test]
fn functions_are_there() {
    renders(&[
        (
            "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.current }}",
            "ababNonea",
        ),
        ("{% set j = joiner('; ') %}{{ j() }}a{{ j() }}b{{ joiner()() }}", "a; b"),
        (
            "{{ strftime_now('%d %b %Y|%Y-%m-%d|%H:%M:%S|%A %B %-d|%I %p|%j %U %W %V %G %u %w|%D|%x|%X|%c|%e|%y|%Q|%%') }}",
            "30 Nov 2026|2026-11-30|00:53:20|Monday November 30|12 AM|334 48 48 49 2026 1 1|11/30/26|11/30/26|00:53:20|Mon Nov 30 00:53:20 2026|30|26|%Q|%",
        ),
    ]);
    refuses(&[
        "{{ cycler() }}",       // RuntimeError
        "{{ range() }}",        // TypeError
        "{{ range(1, 2, 0) }}", // ValueError
        "{{ 5() }}",            // TypeError
        "{{ 'a'() }}",          // TypeError
    ]);
}
