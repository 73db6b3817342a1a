//! Python's values: numbers, strings, lists and dictionaries, their methods and their texts.

use crate::common::{refuses, renders};

#[test]
fn numbers_are_written_as_python_writes_them() {
    renders(&[
        (
            "{{ 7 / 2 }} {{ 6 / 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }} {{ 2 ** -1 }} {{ 2 ** 100 }}",
            "3.5 3.0 3 -4 2 -2 3.0 0.5 0.5 1267650600228229401496703205376",
        ),
        (
            "{{ 1.0 }} {{ 1e15 }} {{ 1e16 }} {{ 1e20 }} {{ 0.0001 }} {{ 0.00001 }} {{ 0.1 + 0.2 }} {{ 1e300 * 1e10 }} {{ -0.0 }} {{ 100000000000000.0 }} {{ 999999999999999.0 - 45 + 0.25 }}",
            "1.0 1000000000000000.0 1e+16 1e+20 0.0001 1e-05 0.30000000000000004 inf -0.0 100000000000000.0 999999999999954.2",
        ),
        (
            "{{ true + 1 }} {{ 1 == 1.0 }} {{ '1' == 1 }} {{ 3 == true }} {{ 12345678901234567890 }} {{ 12345678901234567890 / 7 }} {{ float }}{{ number }}",
            "2 True False False 12345678901234567890 1.763668414462081e+18 2.57",
        ),
        (
            "{{ 42.55|round }} {{ 42.55|round(1, 'floor') }} {{ 42|round }} {{ 2.5|round }} {{ 3.5|round }} {{ 2.675|round(2) }} {{ 1250|round(-2) }} {{ 42.1|round(0, 'ceil') }} {{ -0.2|round(0, 'ceil') }}",
            "43.0 42.5 42 2.0 4.0 2.67 1200 43.0 0.0",
        ),
        (
            "{{ '3.7'|int }} {{ '3.7'|float }} {{ 'x'|int }} {{ 'x'|int(5) }} {{ 'ff'|int(base=16) }} {{ ' 1_0 '|int }} {{ 3.99|int }} {{ -3.99|int }} {{ '1e3'|float }} {{ none|int(1) }} {{ true|int }}",
            "3 3.7 0 5 255 10 3 -3 1000.0 1 1",
        ),
        (
            "{{ 5.real }} {{ (5).bit_length() }} {{ 2.0.is_integer() }} {{ 0.5.as_integer_ratio is defined }}",
            "5 3 True True",
        ),
    ]);
    refuses(&[
        "{{ 1 / 0 }}",           // ZeroDivisionError
        "{{ 1 // 0 }}",          // ZeroDivisionError
        "{{ 1.0 % 0 }}",         // ZeroDivisionError
        "{{ 0 ** -1 }}",         // ZeroDivisionError
        "{{ 'a' + 1 }}",         // TypeError
        "{{ 1 + 'a' }}",         // TypeError
        "{{ [1] + (2,) }}",      // TypeError
        "{{ none < 1 }}",        // TypeError
        "{{ 'inf'|float|int }}", // NameError
    ]);
}

#[test]
fn dictionaries_keep_their_order() {
    renders(&[
        (
            "{% set r = {'system': 'S', 'assistant': 'A', 'user': 'U'} %}{{ r.keys()|join(',') }}{{ r.values()|list }}{{ r|list }}{{ r.items() }}",
            "system,assistant,user['S', 'A', 'U']['system', 'assistant', 'user']dict_items([('system', 'S'), ('assistant', 'A'), ('user', 'U')])",
        ),
        (
            "{{ messages[1]|tojson }}{{ messages[1] }}",
            "{\"role\": \"assistant\", \"content\": \"yo\", \"tool_calls\": [{\"id\": \"1\", \"function\": {\"name\": \"f\", \"arguments\": {\"z\": 1, \"a\": [true, null, 2.5]}}}]}{'role': 'assistant', 'content': 'yo', 'tool_calls': [{'id': '1', 'function': {'name': 'f', 'arguments': {'z': 1, 'a': [True, None, 2.5]}}}]}",
        ),
        (
            "{{ {'b': 1, 'a': 2}|string }}{{ {'b': 1, 'a': 2}|items|list }}{{ {'b': 1, 'a': 2}|first }}{{ {'b': 1, 'b': 3, 'a': 2} }}",
            "{'b': 1, 'a': 2}[('b', 1), ('a', 2)]b{'b': 3, 'a': 2}",
        ),
        (
            "{{ {'b': 1, 'a': 2}|dictsort }}{{ {'b': 1, 'A': 2}|dictsort(true) }}{{ {'b': 1, 'a': 2}|dictsort(by='value', reverse=true) }}",
            "[('a', 2), ('b', 1)][('A', 2), ('b', 1)][('a', 2), ('b', 1)]",
        ),
        (
            "{{ {1: 'a', 1.0: 'b', true: 'c'} }}{{ {(1, 2): 3}[(1, 2)] }}{{ {'a': 1}.get('b') }}{{ {'a': 1}.get('b', 2) }}{{ {'a': 1} == {'a': 1.0} }}{{ {'a': 1}.copy() }}",
            "{1: 'c'}3None2True{'a': 1}",
        ),
        (
            "{{ dict(a=1, b=2) }}{{ dict([('a', 1)], b=2) }}{{ dict.fromkeys('ab') }}{{ 'a' in {'a': 1} }}{{ {'a': 1}.keys() }}",
            "{'a': 1, 'b': 2}{'a': 1, 'b': 2}{'a': None, 'b': None}Truedict_keys(['a'])",
        ),
    ]);
    refuses(&[
        "{{ {[]: 1} }}",                                    // TypeError
        "{{ dict([1]) }}",                                  // TypeError
        "{{ {'a': 1}|sort(attribute='x') }}{{ {}.get() }}", // TypeError
    ]);
}

#[test]
fn strings_have_python_s_methods() {
    renders(&[
        (
            "{{ 'abc'.zfill(5) }}{{ '-1'.zfill(4) }}{{ 'a'.ljust(3) }}|{{ 'a'.rjust(3, '*') }}{{ 'ab'.center(5, '*') }}{{ 'abc'.index('b') }}{{ 'abcabc'.find('c', 3) }}{{ 'abc'.rfind('x') }}{{ 'aaa'.count('a') }}{{ 'abc'.count('') }}",
            "00abc-001a  |**a**ab*15-134",
        ),
        (
            "{{ 'a-b-c'.partition('-') }}{{ 'a-b-c'.rpartition('-') }}{{ 'p_x'.removeprefix('p_') }}{{ 'x.t'.removesuffix('.t') }}{{ 'aXb'.swapcase() }}{{ 'a\\tb'.expandtabs(4) }}",
            "('a', '-', 'b-c')('a-b', '-', 'c')xxAxBa   b",
        ),
        (
            "{{ 'a b  c '.split() }}{{ ' a b  c '.split(None, 1) }}{{ 'a b c'.rsplit(maxsplit=1) }}{{ 'a,b,,c'.split(',') }}{{ 'a,b,c'.rsplit(',', 1) }}{{ ''.split() }}{{ ''.split(',') }}",
            "['a', 'b', 'c']['a', 'b  c ']['a b', 'c']['a', 'b', '', 'c']['a,b', 'c'][]['']",
        ),
        (
            "{{ odd.splitlines() }}{{ 'a\\n\\nb\\n'.splitlines(true) }}{{ ' x\\x1c\\x1f'.strip() }}|{{ 'xxaxx'.strip('x') }}{{ 'abc'.lstrip('ba') }}{{ 'abc'.rstrip() }}",
            "['a', 'b', 'c', 'd']['a\\n', '\\n', 'b\\n']x|acabc",
        ),
        (
            "{{ 'abc'.startswith('b', 1) }}{{ 'abc'.endswith(('x', 'bc')) }}{{ 'aba'.replace('a', 'c', 1) }}{{ 'ab'.replace('', '-') }}{{ ','.join(['a', 'b']) }}{{ ''.join('abc') }}",
            "TrueTruecba-a-b-a,babc",
        ),
        (
            "{{ ' '.isspace() }}{{ 'A'.isupper() }}{{ 'a1'.isalnum() }}{{ 'é'.isalpha() }}{{ '٣'.isdigit() }}{{ '²'.isdecimal() }}{{ '½'.isnumeric() }}{{ 'a_1'.isidentifier() }}{{ 'Ab Cd'.istitle() }}{{ ''.isprintable() }}{{ 'é'.isascii() }}",
            "TrueTrueTrueTrueTrueFalseTrueTrueTrueTrueFalse",
        ),
        (
            "{{ 'ßǆ'.title() }} {{ 'ß'.upper() }} {{ 'ΑΣ ΑΣΑ'.lower() }} {{ 'ß'.casefold() }} {{ 'ŉa B'.capitalize() }} {{ \"it's o'neil\".title() }} {{ 'ﬁn'.capitalize() }}",
            "Ssǆ SS ας ασα ss ʼNa b It'S O'Neil Fin",
        ),
        (
            "{{ 'abc'.translate({97: 'x', 98: none}) }}{{ 'abc'.translate('a'.maketrans('ab', 'xy')) }}{{ [1, 2, 1].count(1) }}{{ [1, 2].index(2) }}{{ (1, 2).index(2) }}{{ range(5).index(3) }}",
            "xcxyc2113",
        ),
        (
            "{{ 'a' < 'b' }}{{ 'a' in 'abc' }}{{ 'ab' * 2 }}{{ 'abc'[1] }}{{ 'aé😀'[2] }}{{ 'aé😀'|length }}{{ 'aé😀'|reverse }}",
            "TrueTrueababb😀3😀éa",
        ),
    ]);
    refuses(&[
        "{{ 'abc'.index('x') }}",     // ValueError
        "{{ 'a'.split('') }}",        // ValueError
        "{{ 'a'.replace('a') }}",     // TypeError
        "{{ 'a'.nope() }}",           // UndefinedError
        "{{ 'a'.join([1]) }}",        // TypeError
        "{{ 'a'.center(3, 'xy') }}",  // TypeError
        "{{ 1 in 'a' }}",             // TypeError
        "{{ 'a'.strip(chars='a') }}", // TypeError
    ]);
}

#[test]
fn texts_are_formatted_as_in_python() {
    renders(&[
        (
            "{{ '%s|%5s|%-5s|%.2s' % ('a', 'b', 'c', 'def') }}{{ '%d %05d %+d %x %#o %c' % (3.9, 42, 5, 255, 8, 97) }}{{ '%e %g %.1f %5.1f%%' % (12345.678, 0.0001, 0.25, 9.96) }}{{ '%r %a' % ('é', 'é') }}",
            "a|    b|c    |de3 00042 +5 ff 0o10 a1.234568e+04 0.0001 0.2  10.0%'é' '\\xe9'",
        ),
        (
            "{{ '%(a)s %(b)d' % {'a': 'x', 'b': 3} }}{{ '%s' % [1] }}{{ '%s' % ((1, 2),) }}{{ 'a' % [] }}{{ '%*d' % (5, 3) }}{{ '%s, %s!'|format('a', 'b') }}{{ '%(x)s'|format(x=1) }}",
            "x 3[1](1, 2)a    3a, b!1",
        ),
        (
            "{{ 'a{}{}'.format(1, 2) }}{{ '{1}{0}'.format('a', 'b') }}{{ '{a.b}{c[0]}{{}}'.format(a={'b': 1}, c=[5]) }}{{ '{!r:>5}{:d}'.format('y', 3) }}{{ '{:>{w}}'.format('q', w=4) }}{{ '{x}'.format_map({'x': 1}) }}",
            "a12ba15{}  'y'3   q1",
        ),
        (
            "{{ '{:05d}|{:,}|{:_}|{:.3f}|{:>8}|{:^8}|{:*<4}|{:x}|{:#x}|{:b}|{:%}|{:e}|{:g}|{:+}|{:.3}|{:010,}'.format(42, 1234567, 1234567, 3.14159, 'a', 'b', 'c', 255, 255, 5, 0.25, 12345.678, 1e10, 5, 'abcdef', 1234.5) }}",
            "00042|1,234,567|1_234_567|3.142|       a|   b    |c***|ff|0xff|101|25.000000%|1.234568e+04|1e+10|+5|abc|0,001,234.5",
        ),
        (
            "{{ [1, 'a', 'a\\'b', \"it's\", 'a\\nb\\\\', none, true, 1.0, (1,), {'a': 'b'}, 'é\\u00a0\\u200b\\U0001F600', '\\x7f', range(3)] }}",
            "[1, 'a', \"a'b\", \"it's\", 'a\\nb\\\\', None, True, 1.0, (1,), {'a': 'b'}, 'é\\xa0\\u200b😀', '\\x7f', range(0, 3)]",
        ),
    ]);
    refuses(&[
        "{{ '%d' % 'a' }}",         // TypeError
        "{{ '%s %s' % 'a' }}",      // TypeError
        "{{ 'a' % 1 }}",            // TypeError
        "{{ '%q' % 1 }}",           // ValueError
        "{{ '%(a)s' % 1 }}",        // TypeError
        "{{ '{}{0}'.format(1) }}",  // ValueError
        "{{ '{}'.format() }}",      // IndexError
        "{{ '{:d}'.format('a') }}", // ValueError
        "{{ '{' .format(1) }}",     // ValueError
        "{{ '}'.format(1) }}",      // ValueError
    ]);
}

#[test]
fn safe_text_escapes_what_joins_it() {
    renders(&[
        (
            "{{ (\"Tom's <b>\"|safe) + \"<i>'\" }}{{ 'a<' + ('b<'|safe) }}{{ '<'|e ~ '<' }}{{ ['<', '<'|safe]|join('>') }}{{ ('<'|safe).join(['<', '>'|safe]) }}",
            "Tom's <b>&lt;i&gt;&#39;a&lt;b<&lt;<<><&lt;<>",
        ),
        (
            "{{ ('<%s>'|safe) % '<' }}{{ ('{}'|safe).format('<') }}{{ ('a,<'|safe).split(',') }}{{ ('<'|safe).replace('<', '<<') }}{{ ('<b>'|safe)|upper is escaped }}{{ '<'|safe is string }}{{ ('<'|safe)|tojson }}{{ '<' == ('<'|safe) }}",
            "<&lt;>&lt;[Markup('a'), Markup('<')]&lt;&lt;TrueTrue\"<\"True",
        ),
        (
            "{{ '<a>&\"\\''|escape }}{{ '<a>'|forceescape }}{{ '<b>x</b> &amp; <!-- c -->y'|striptags }}{{ {'a': 'b\"', 'c': none}|xmlattr }}",
            "&lt;a&gt;&amp;&#34;&#39;&lt;a&gt;x & y a=\"b&#34;\"",
        ),
    ]);
}

#[test]
fn arguments_are_checked_where_python_checks_them() {
    renders(&[
        ("{{ 'é\"'|tojson(indent=[1]) }} {{ 'a'|tojson(separators=[1, 2]) }}", "\"é\\\"\" \"a\""),
        ("{{ 'a b c d'|truncate(3, leeway=1.5) }}|{{ 'abc'|truncate(2.5, true, '') }}", "...|abc"),
        (
            "{{ 'a,b,c'.split(',', 1) }}{{ [1] * -2 }}{{ 'ab'.replace('', '-', 2) }}",
            "['a', 'b,c'][]-a-b",
        ),
        ("{{ dict() }}{{ dict({}) }}{{ dict.fromkeys(nothing) }}", "{}{}{}"),
        ("{{ strftime_now('%5.2f|%^q|%Ed|%05d|%#B|%5') }}", "  %5.2f|%^Q|%Ed|00030|NOVEMBER|   %5"),
    ]);
    refuses(&[
        "{{ 1|tojson(indent=[1]) }}",               // TypeError
        "{{ 1|tojson(indent=-(2 ** 70)) }}",        // OverflowError
        "{{ 'a'|tojson(separators=[1]) }}",         // ValueError
        "{{ 'abcdefgh'|truncate(2.5, leeway=0) }}", // AssertionError
        "{{ 'abcdefgh'|truncate(4.5, leeway=0) }}", // TypeError
        "{{ dict(nothing) }}",                      // UndefinedError
        "{{ 'a'.split(none, 2 ** 63) }}",           // OverflowError
        "{{ 'a'.replace('b', 'c', 2 ** 64) }}",     // OverflowError
        "{{ 'a'|replace('b', 'c', -(2 ** 64)) }}",  // OverflowError
        "{{ [] * 2 ** 63 }}",                       // OverflowError
        "{{ 'a' * -(2 ** 70) }}",                   // OverflowError
        "{{ 'a'.splitlines(2 ** 31) }}",            // OverflowError
        "{{ 'a'.expandtabs(2 ** 31) }}",            // OverflowError
    ]);
}

#[test]
fn long_texts_are_no_numbers_or_refused() {
    renders(&[
        (
            "{{ ('a b' * 30000)|int(5) }} {{ ('1, ' * 30000)|float }} {{ (' ' * 70000)|int }}",
            "5 0.0 0",
        ),
        ("{{ (' ' * 70000 ~ '12' ~ ' ' * 70000)|int }} {{ ('0' * 50000 ~ '1')|float }}", "12 1.0"),
    ]);
    refuses(&["{{ ('1' * 70000)|float }}"]);
}
