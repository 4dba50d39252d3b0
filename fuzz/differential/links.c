/* Disappearing links and toggle references. */
#include "differential.h"

/* ---- links to objects that are held: what the calls answer, and that nothing is cleared ---- */

enum { LINKS = 24 };

typedef int add_call(void **link, const void *object);
typedef int move_call(void **link, void **new_link);
typedef int remove_call(void **link);

static struct family {
  const char *name;
  add_call *add;
  move_call *move;
  remove_call *remove;
  void *words[LINKS]; /* in disguise */
  void *of[LINKS];    /* in disguise: whose link is registered there, or NULL */
} families[] = {
    {"short",
     GC_general_register_disappearing_link,
     GC_move_disappearing_link,
     GC_unregister_disappearing_link,
     {0},
     {0}},
    {"long", GC_register_long_link, GC_move_long_link, GC_unregister_long_link, {0}, {0}},
};

static void *hidden(void *object) { return (void *)GC_HIDE_POINTER(object); }

static void before_free(void *object) {
  for (int f = 0; f < 2; f++) {
    struct family *family = &families[f];
    for (int i = 0; i < LINKS; i++) {
      if (family->of[i] != hidden(object)) continue;
      REQUIRE(family->words[i] == hidden(object));
      REQUIRE(family->remove(&family->words[i]) == 1);
      family->of[i] = NULL;
    }
  }
}

static void check_links(const struct family *family) {
  for (int i = 0; i < LINKS; i++)
    if (family->of[i] != NULL) REQUIRE(family->words[i] == family->of[i]);
}

static void add(struct family *family, int at) {
  void *object = objects_any();
  if (object == NULL) return;
  int expected = family->of[at] ? GC_DUPLICATE : GC_SUCCESS;
  family->words[at] = family->of[at] = hidden(object);
  int result = family->add(&family->words[at], object);
  say("%s link: %d", family->name, result);
  REQUIRE(result == expected);
}

static void move(struct family *family, int from, int to) {
  int expected = family->of[from] == NULL ? GC_NOT_FOUND
                 : from == to             ? GC_SUCCESS
                 : family->of[to] != NULL ? GC_DUPLICATE
                                          : GC_SUCCESS;
  void *word = family->words[to];
  int result = family->move(&family->words[from], &family->words[to]);
  say("%s link moves: %d", family->name, result);
  REQUIRE(result == expected && family->words[to] == word);
  if (result != GC_SUCCESS || from == to) return;
  family->words[to] = family->words[from];
  family->of[to] = family->of[from];
  family->of[from] = NULL;
}

static void odd_links(struct family *family, int at) {
  void **odd = (void **)((char *)&family->words[at] + 1 + any_below(7));
  say("%s odd links: %d %d %d %d", family->name, family->remove(odd), family->remove(NULL),
      family->move(odd, &family->words[at]), family->move(NULL, &family->words[at]));
}

void links_step(void) {
  static bool known;
  if (!known) objects_on_free(before_free);
  known = true;
  struct family *family = &families[any_below(2)];
  int at = (int)any_below(LINKS), other = (int)any_below(LINKS);
  switch (any_below(10)) {
    case 0:
      odd_links(family, at);
      break;
    case 1:
    case 2:
      say("%s unlink: %d", family->name, family->remove(&family->words[at]));
      family->of[at] = NULL;
      break;
    case 3:
    case 4:
    case 5:
      move(family, at, other);
      break;
    default:
      add(family, at);
  }
  check_links(family);
}

/* ---- links in the heap: they end with the object that they are in ---- */

enum { OWN_LINK = 2 };

static void ***holders; /* uncollectable, as the next */
static void **targets;

static NOINLINE void make_heap_links(bool is_long) {
  for (int i = 0; i < COPIES; i++) {
    holders[i] = GC_malloc_atomic(4 * sizeof(void *));
    targets[i] = GC_malloc(40);
    watch(i, targets[i]);
    holders[i][1] = targets[i];
    add_call *add_link = is_long ? GC_register_long_link : GC_general_register_disappearing_link;
    REQUIRE(add_link(&holders[i][1], targets[i]) == GC_SUCCESS);
    holders[i][OWN_LINK] = holders[i];
    REQUIRE(GC_register_disappearing_link(&holders[i][OWN_LINK]) == GC_SUCCESS);
    REQUIRE(GC_register_disappearing_link(&holders[i][OWN_LINK]) == GC_DUPLICATE);
  }
}

/* What comes into the place of a holder that died must stay as it is. */
static void heap_links(void) {
  bool is_long = any_chance(50), keeps_holders = any_chance(70), keeps_targets = any_chance(40);
  holders = GC_malloc_uncollectable(COPIES * sizeof(void *));
  targets = GC_malloc_uncollectable(COPIES * sizeof(void *));
  make_heap_links(is_long);
  for (int i = 0; i < COPIES; i++) {
    if (!keeps_holders) holders[i] = NULL;
    if (!keeps_targets) targets[i] = NULL;
  }
  settle();
  int cleared = 0, changed = 0;
  for (int i = 0; i < COPIES; i++) {
    if (!keeps_holders) continue;
    cleared += holders[i][1] == NULL;
    REQUIRE(holders[i][OWN_LINK] == holders[i]);
  }
  int dead = count_dead();
  say("links in the heap, %d %d %d: %s cleared, %s dead", is_long, keeps_holders, keeps_targets, share(cleared, COPIES),
      share(dead, COPIES));
  for (int i = 0; i < COPIES; i++) {
    if (keeps_holders) continue;
    holders[i] = GC_malloc_atomic(4 * sizeof(void *));
    holders[i][1] = holders[i][OWN_LINK] = targets;
  }
  for (int i = 0; i < COPIES; i++) targets[i] = NULL;
  settle();
  for (int i = 0; i < COPIES; i++)
    changed += !keeps_holders && (holders[i][1] != targets || holders[i][OWN_LINK] != targets);
  REQUIRE(changed == 0);
  GC_free(targets);
  GC_free(holders);
}

/* ---- toggle references ---- */

static GC_ToggleRefStatus answers[3];
static int calls[3];

/* The first word says which group an object is of. */
static GC_ToggleRefStatus toggle(void *object) {
  GC_word group = *(GC_word *)object;
  REQUIRE(group < 3);
  calls[group]++;
  return answers[group];
}

static NOINLINE void make_references(GC_word group, int is_strong) {
  for (int i = 0; i < COPIES; i++) {
    GC_word *object = GC_malloc(40);
    object[0] = group;
    watch(i, object);
    REQUIRE(GC_toggleref_add(object, is_strong) == GC_SUCCESS);
  }
}

/* Weak references are asked about while their objects live, strong ones each time, dropped ones never again. */
static void toggle_group(GC_word group, GC_ToggleRefStatus first, GC_ToggleRefStatus second) {
  calls[group] = 0;
  answers[group] = first;
  make_references(group, first == GC_TOGGLE_REF_STRONG);
  collect();
  int asked = calls[group];
  say("toggle references: %s asked", asked >= COPIES ? "all" : "not all");
  if (first == GC_TOGGLE_REF_STRONG) {
    collect();
    REQUIRE(calls[group] >= 2 * COPIES);
    answers[group] = second;
    collect();
  }
  calls[group] = 0;
  settle();
  settle();
  calls[group] = 0;
  collect();
  say("toggle %d then %d: %s dead, %s asked again", first, second, share(count_dead(), COPIES),
      calls[group] <= COPIES / 4 ? "few" : "many");
}

void links_dead_step(void) {
  if (any_chance(50)) {
    heap_links();
    return;
  }
  GC_set_toggleref_func(toggle);
  REQUIRE(GC_get_toggleref_func() == toggle);
  static const GC_ToggleRefStatus weaker[] = {GC_TOGGLE_REF_WEAK, GC_TOGGLE_REF_DROP};
  if (any_chance(50))
    toggle_group(0, GC_TOGGLE_REF_STRONG, weaker[any_below(2)]);
  else
    toggle_group(1, weaker[any_below(2)], GC_TOGGLE_REF_WEAK);
}
