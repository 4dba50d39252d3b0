/* Roots: ranges that are added and removed in memory of malloc, of which is known here which words they cover. */
#include <string.h>

#include "differential.h"

#include "gc/gc_mark.h"

enum { BLOCKS = 6, RANGES_MAX = 32 };

static void **words; /* BLOCKS times COPIES, of malloc */

/* As the library holds them: a removal takes out what lies wholly inside, ranges with the same start are one. */
static struct range { size_t start, end; } ranges[RANGES_MAX];
static int range_count;

static size_t any_word(void) {
  return any_chance(50) ? any_below(BLOCKS + 1) * COPIES : any_below(BLOCKS * COPIES + 1);
}

static void add(size_t start, size_t end) {
  GC_add_roots(words + start, words + end);
  for (int i = 0; i < range_count; i++) {
    if (ranges[i].start != start) continue;
    if (ranges[i].end < end) ranges[i].end = end;
    return;
  }
  if (start < end) ranges[range_count++] = (struct range){start, end};
}

static void take(size_t start, size_t end) {
  GC_remove_roots(words + start, words + end);
  int kept = 0;
  for (int i = 0; i < range_count; i++)
    if (ranges[i].start < start || ranges[i].end > end) ranges[kept++] = ranges[i];
  range_count = kept;
}

static int covered(int block) {
  int count = 0;
  for (size_t w = (size_t)block * COPIES; w < (size_t)(block + 1) * COPIES; w++) {
    bool is_covered = false;
    for (int i = 0; i < range_count; i++) is_covered |= ranges[i].start <= w && w < ranges[i].end;
    count += is_covered;
  }
  return count;
}

static NOINLINE void fill(int block) {
  for (int i = 0; i < COPIES; i++) {
    void *target = GC_malloc(40);
    watch(i, target);
    words[block * COPIES + i] = target;
  }
}

static void look(int block) {
  fill(block);
  settle();
  int dead = count_dead(), uncovered = COPIES - covered(block);
  memset(words + block * COPIES, 0, COPIES * sizeof(void *));
  say("block %d, %d words no root: %s dead", block, uncovered,
      uncovered == 0 || uncovered == COPIES ? share(dead, COPIES) : "-");
  REQUIRE(dead <= uncovered);
}

static void change(void) {
  size_t start = any_word(), end = any_word();
  if (start > end) {
    size_t other = start;
    start = end;
    end = other;
  }
  bool is_added = any_chance(65);
  say("%s %zu to %zu", is_added ? "add" : "remove", start, end);
  if (is_added)
    add(start, end);
  else
    take(start, end);
}

/* ---- roots that the program reports while marking ---- */

static GC_push_other_roots_proc push_before;
static GC_word reported; /* in disguise */
static size_t reported_words;
static int pushes;

static void push_reported(void) {
  void **first = GC_REVEAL_POINTER(reported);
  pushes++;
  GC_push_all(first, first + reported_words);
  push_before();
}

static void report(void) {
  push_before = GC_get_push_other_roots();
  reported = GC_HIDE_POINTER(words);
  reported_words = any_chance(50) ? COPIES : 0;
  if (range_count > 0) return;
  GC_set_push_other_roots(push_reported);
  REQUIRE(GC_get_push_other_roots() == push_reported);
  pushes = 0;
  fill(0);
  settle();
  say("reported %zu: %s dead, asked %d", reported_words, share(count_dead(), COPIES), pushes > 0);
  memset(words, 0, COPIES * sizeof(void *));
  GC_set_push_other_roots(push_before);
}

/* ---- static data ---- */

static void *in_static_data[COPIES];

static NOINLINE void fill_static(void) {
  for (int i = 0; i < COPIES; i++) watch(i, in_static_data[i] = GC_malloc(40));
}

static void look_at_static(void) {
  fill_static();
  settle();
  say("static data: %s dead", share(count_dead(), COPIES));
  memset(in_static_data, 0, sizeof in_static_data);
}

/* For good: the middle part of this is excluded once. */
static void *in_parts[3][COPIES];

static NOINLINE void fill_part(int part) {
  for (int i = 0; i < COPIES; i++) watch(i, in_parts[part][i] = GC_malloc(40));
}

static void exclude(void) {
  static bool is_excluded;
  if (!is_excluded) GC_exclude_static_roots(in_parts[1], in_parts[2]);
  is_excluded = true;
  int part = (int)any_below(3);
  fill_part(part);
  settle();
  say("part %d of static data: %s dead", part, share(count_dead(), COPIES));
  for (int i = 0; i < COPIES; i++) in_parts[part][i] = NULL;
}

/* Static data of the objects that the function says no to are no roots. */
static int asked;

static int has_roots(const char *name, void *start, size_t bytes) {
  REQUIRE(name != NULL && bytes > 0);
  asked++;
  char *ours = (char *)in_static_data;
  return ours < (char *)start || ours >= (char *)start + bytes;
}

static void filter(void) {
  asked = 0;
  GC_register_has_static_roots_callback(has_roots);
  fill_static();
  settle();
  say("static data, filtered: %s dead, asked %d", share(count_dead(), COPIES), asked > 0);
  GC_register_has_static_roots_callback(NULL);
  memset(in_static_data, 0, sizeof in_static_data);
  settle();
  look_at_static();
}

void roots_step(void) {
  if (any_chance(20)) {
    exclude();
    return;
  }
  if (any_chance(10)) {
    filter();
    return;
  }
  if (words == NULL) words = calloc(BLOCKS * COPIES, sizeof(void *));
  REQUIRE(words != NULL);
  range_count = 0;
  for (size_t changes = any_below(10); changes > 0; changes--) change();
  for (int i = 0; i < 2; i++) look((int)any_below(BLOCKS));
  if (any_chance(20)) {
    say("clear");
    GC_clear_roots();
    range_count = 0;
    look((int)any_below(BLOCKS));
    look_at_static();
  } else {
    take(0, BLOCKS * COPIES);
  }
  if (any_chance(30)) report();
}
