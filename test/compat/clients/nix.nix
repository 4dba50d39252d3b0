# Work of many kinds that prints the same on every collector.
let
  inherit (builtins) add concatStringsSep filter foldl' genList attrValues length listToAttrs map sort stringLength
    toString elemAt toJSON;
  range = genList (n: n);
  sum = foldl' add 0;
  mod = a: b: a - b * (a / b);

  fibonacci = n: if n < 2 then n else fibonacci (n - 1) + fibonacci (n - 2);

  # A tree of attribute sets, built lazily.
  tree = depth: { value = depth; children = if depth == 0 then [ ] else [ (tree (depth - 1)) (tree (depth - 1)) ]; };
  weigh = node: node.value + sum (map weigh node.children);

  table = listToAttrs (map (n: { name = "key${toString n}"; value = { inherit n; square = n * n; }; }) (range 4000));

  sieve = limit:
    filter (n: n > 1 && filter (d: d * d <= n && mod n d == 0) (map (i: i + 2) (range 20)) == [ ]) (range limit);

  layers = foldl' (set: n: set // { "layer${toString (mod n 50)}" = n; }) { } (range 1500);
in {
  fibonacci = fibonacci 17;
  tree = weigh (tree 11);
  table = { count = length (attrValues table); last = table.key3999.square; };
  strings = stringLength (concatStringsSep "," (map toString (range 5000)));
  sorted = elemAt (sort (a: b: a < b) (map (n: mod (n * 7919) 10007) (range 3000))) 1234;
  primes = length (sieve 400);
  layers = layers;
  json = stringLength (toJSON table);
  garbage = sum (map (n: length (range (1000 + n))) (range 300));
}
