#!/usr/bin/env node
// Analyses KQL with the official Kusto language service, then with Resource Graph's own rules.
//
//   kql-check.js SCHEMA.json     stdin: {"name": "query text", ...}
//                                stdout: {"name": {"diagnostics": [...], "columns": [["name", "type"], ...]}, ...}
//
// The language service knows Kusto: syntax, columns, functions, types. What Resource Graph refuses of Kusto is in the
// schema file under "rules" and is checked here on the syntax tree, as ARG001 to ARG007. A schema without rules is that
// of a Log Analytics workspace, which accepts all of Kusto. "columns" are those of every table; where tables differ,
// "tables" is an object of columns by table. Exit code 0 whatever the diagnostics are: the caller reads them. It cannot
// see a misspelt property inside a dynamic column.
'use strict';
const fs = require('node:fs');
// The package's main file expects a global Bridge, which nothing sets: load its two parts in order. Both install
// themselves on globalThis. Constructors have numbered names ($ctor3), hence the exact version in package-lock.json.
require('@kusto/language-service-next/bridge.min.js');
require('@kusto/language-service-next/Kusto.Language.Bridge.min.js');
const { Kusto, System } = globalThis;
const { Symbols, Syntax } = Kusto.Language;

const listed = (list) => Array.from({ length: list.Count }, (_, i) => list.getItem(i));
const kindOf = (node) => System.Enum.toString(Syntax.SyntaxKind, node.Kind);
const capital = (word) => ({ datetime: 'DateTime', timespan: 'TimeSpan' })[word] ?? word[0].toUpperCase() + word.slice(1);

function nodesUnder(root) {
  const nodes = [];
  Syntax.SyntaxElement.WalkNodes(root, (node) => { nodes.push(node); });
  return nodes;
}

// Built column by column: the constructor that takes "(id:string, kind:string)" stops silently at a keyword (kind).
function tableSymbol(name, columns) {
  const symbols = Object.entries(columns).map(([column, type]) => {
    const scalar = Symbols.ScalarTypes[capital(type)];
    if (!scalar) throw new Error(`unknown column type ${type}`);
    return new Symbols.ColumnSymbol(column, scalar, null, null, null, null);
  });
  return new Symbols.TableSymbol.$ctor4(name, symbols);
}

// Resource Graph reads table names in any letter case, Kusto does not: declare each spelling of the query.
function globalsFor(schema, text) {
  if (!Array.isArray(schema.tables)) {
    const exact = Object.entries(schema.tables).map(([name, columns]) => tableSymbol(name, columns));
    return Kusto.Language.GlobalState.Default.WithDatabase(
      new Symbols.DatabaseSymbol.$ctor3('workspace', null, exact, false));
  }
  const spelt = (name) => new Set([name, ...(text.match(new RegExp(`\\b${name}\\b`, 'gi')) ?? [])]);
  const tables = schema.tables.flatMap((name) => [...spelt(name)]).map((name) => tableSymbol(name, schema.columns));
  const database = new Symbols.DatabaseSymbol.$ctor3('resourcegraph', null, tables, false);
  return Kusto.Language.GlobalState.Default.WithDatabase(database);
}

function keywordOf(operator) {
  for (let i = 0; i < operator.ChildCount; i++) {
    const text = operator.GetChild(i)?.Text;
    if (text !== undefined) return text.toLowerCase();
  }
  throw new Error(`an operator without a keyword: ${kindOf(operator)}`);
}

// The first table named under a node, in lower case.
function tableOf(node, schema) {
  const names = nodesUnder(node)
    .filter((n) => kindOf(n) === 'NameReference' && n.ReferencedSymbol instanceof Symbols.TableSymbol)
    .map((n) => n.ReferencedSymbol.Name.toLowerCase());
  return names.find((name) => schema.tables.includes(name));
}

const isOperator = (node) => node instanceof Syntax.QueryOperator;
const isReference = (node) => /^(NameReference|PathExpression|ElementExpression)$/.test(kindOf(node));
const isDynamicKey = (node) => isReference(node) && node.ResultType?.Name === 'dynamic';

function joinKindOf(join) {
  for (const parameter of listed(join.Parameters)) {
    const [name, , value] = [0, 1, 2].map((i) => parameter.GetChild(i).ToString().trim());
    if (name === 'kind') return value;
  }
  return 'innerunique';
}

function* brokenRules(root, schema) {
  const { rules } = schema;
  const nodes = nodesUnder(root);
  const operators = nodes.filter(isOperator);
  for (const node of nodes.filter((n) => kindOf(n) === 'LetStatement')) {
    yield ['ARG005', node, "'let' is not supported"];
  }
  for (const operator of operators) {
    const keyword = keywordOf(operator);
    if (!rules.operators.includes(keyword)) yield ['ARG001', operator, `operator '${keyword}' is not documented`];
  }
  for (const [keyword, most] of Object.entries(rules.atMost)) {
    const found = operators.filter((o) => keywordOf(o).replace('mvexpand', 'mv-expand') === keyword).length;
    if (found > most) yield ['ARG003', root, `${found} '${keyword}', at most ${most} in a query`];
  }
  const joins = operators.filter((o) => kindOf(o) === 'JoinOperator');
  for (const join of joins) yield* brokenJoinRules(join, rules);
  yield* brokenTableRules(root, joins, schema);
}

function* brokenJoinRules(join, rules) {
  const kind = joinKindOf(join);
  if (!rules.joinKinds.includes(kind)) yield ['ARG002', join, `join kind '${kind}' is not supported`];
  // The language service itself accepts such a key.
  const keys = join.ConditionClause ? nodesUnder(join.ConditionClause).filter(isDynamicKey) : [];
  for (const key of keys) yield ['ARG004', key, 'a join key may not be dynamic: cast it, for example with tostring()'];
}

function* brokenTableRules(root, joins, schema) {
  const first = tableOf(root, schema);
  const joined = joins.map((join) => tableOf(join.Expression, schema)).filter((name) => name !== undefined);
  const across = joined.filter((name) => name !== first);
  const free = [first, ...across].every((name) => schema.rules.joinedFreely.includes(name));
  if (across.length > 1 && !free) yield ['ARG006', root, `${across.length} joins across tables, one is allowed`];
  for (const name of new Set(joined)) {
    const times = joined.filter((other) => other === name).length;
    if (times > 1) yield ['ARG007', root, `'${name}' is on the right of ${times} joins`];
  }
}

function check(text, schema) {
  const code = Kusto.Language.KustoCode.ParseAndAnalyze(text, globalsFor(schema, text));
  const place = (start) => {
    const before = text.slice(0, start).split('\n');
    return { line: before.length, column: before.at(-1).length + 1 };
  };
  const official = listed(code.GetDiagnostics()).map((d) => ({ code: d.Code, message: d.Message, ...place(d.Start) }));
  const own = [...(schema.rules ? brokenRules(code.Syntax, schema) : [])]
    .map(([rule, node, message]) => ({ code: rule, message, ...place(node.TextStart) }));
  const columns = code.ResultType?.Columns ? listed(code.ResultType.Columns).map((c) => [c.Name, c.Type.Name]) : [];
  return { diagnostics: [...official, ...own], columns };
}

const schema = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
const queries = JSON.parse(fs.readFileSync(0, 'utf8'));
const answers = Object.entries(queries).map(([name, text]) => [name, check(text, schema)]);
process.stdout.write(JSON.stringify(Object.fromEntries(answers)));
