/* Which words of an object are read: plain objects, typed ones, arrays of them, kinds that the program makes with each sort of
 * descriptor, objects with a type structure.
 *
 * COPIES holders are made, each of which is all that leads to a target, from one word.  Whether the word counts is known
 * here too: what the holder says of its words is drawn at random, once for each kind, since kinds are few. */
#include <string.h>

#include "differential.h"

#include "gc/gc_gcj.h"
#include "gc/gc_inline.h"
#include "gc/gc_mark.h"
#include "gc/gc_typed.h"

enum { WORDS_MAX = 160, WORD_BITS = 64 };

/* ---- layouts ---- */

struct layout {
  size_t words;
  bool read[WORDS_MAX];
  GC_word bitmap[WORDS_MAX / WORD_BITS + 1]; /* as GC_make_descriptor takes it */
  GC_word short_descriptor;                  /* of at most 62 words */
};

static void choose_layout(struct layout *layout, size_t words_max) {
  unsigned percent = any_chance(20) ? (any_chance(50) ? 0 : 100) : 10 + (unsigned)any_below(80);
  *layout = (struct layout){.words = 2 + any_below(words_max - 1), .short_descriptor = GC_DS_BITMAP};
  for (size_t w = 0; w < layout->words; w++) {
    if (!any_chance(percent)) continue;
    layout->read[w] = true;
    GC_set_bit(layout->bitmap, w);
    if (w < WORD_BITS - GC_DS_TAG_BITS) layout->short_descriptor |= (GC_word)1 << (WORD_BITS - 1 - w);
  }
}

/* ---- makers ---- */

static struct layout chosen; /* of the holders that are being made */
static size_t elements;      /* of an array */
static int kind;
static GC_descr descriptor;
static struct {
  const char *name;
  GC_word descriptor;
} type_structure = {"type", 0};

static void **plain(void) { return GC_malloc(chosen.words * sizeof(void *)); }
static void **atomic(void) { return GC_malloc_atomic(chosen.words * sizeof(void *)); }
static void **uncollectable(void) { return GC_malloc_uncollectable(chosen.words * sizeof(void *)); }

/* Resizing keeps the kind. */
static void **grown(void *object) { return GC_realloc(object, chosen.words * sizeof(void *)); }
static void **plain_grown(void) { return grown(GC_malloc(1 + chosen.words)); }
static void **atomic_grown(void) { return grown(GC_malloc_atomic(1 + chosen.words)); }
static void **uncollectable_grown(void) { return grown(GC_malloc_uncollectable(1 + chosen.words)); }

static void **of_kind(void) { return GC_generic_malloc(chosen.words * sizeof(void *), kind); }
static void **typed(void) { return GC_malloc_explicitly_typed(chosen.words * sizeof(void *), descriptor); }
static void **gcj(void) { return GC_gcj_malloc(chosen.words * sizeof(void *), &type_structure); }

static void **debug_gcj(void) { return GC_debug_gcj_malloc(chosen.words * sizeof(void *), &type_structure, GC_EXTRAS); }

static void **typed_array(void) {
  return GC_calloc_explicitly_typed(elements, chosen.words * sizeof(void *), descriptor);
}

/* The descriptor is a word of the object. */
static void **described_by_itself(void) {
  void **object = of_kind();
  object[1] = (void *)chosen.short_descriptor;
  return object;
}

/* ---- kinds, made once ---- */

enum { MAPPED_KINDS = 1, MAPPED_WORDS = 60 };

static struct layout mapped[MAPPED_KINDS];
static int mapped_kinds[MAPPED_KINDS], proc_kind, long_kind, short_kind, blind_kind, own_kind;
static size_t proc_word, short_words;

/* The environment is the word that counts. */
static struct GC_ms_entry *mark_word(GC_word *object, struct GC_ms_entry *stack, struct GC_ms_entry *limit,
                                     GC_word word) {
  return GC_MARK_AND_PUSH((void *)object[word], stack, limit, (void **)&object[word]);
}

enum { DEBUG_WORD = 2 };

/* Of objects from GC_debug_gcj_malloc, before which there may be a header. */
static struct GC_ms_entry *mark_debug(GC_word *base, struct GC_ms_entry *stack, struct GC_ms_entry *limit,
                                      GC_word environment) {
  REQUIRE(environment == 1);
  GC_word *object = GC_USR_PTR_FROM_BASE(base);
  return GC_MARK_AND_PUSH((void *)object[DEBUG_WORD], stack, limit, (void **)&object[DEBUG_WORD]);
}

static int new_kind(GC_word kind_descriptor, int add_size) {
  return (int)GC_new_kind(GC_new_free_list(), kind_descriptor, add_size, 1);
}

void kinds_init(void) {
  GC_init_gcj_malloc(GC_GCJ_RESERVED_MARK_PROC_INDEX, (void *)(GC_word)mark_debug);
  for (int i = 0; i < MAPPED_KINDS; i++) {
    choose_layout(&mapped[i], MAPPED_WORDS);
    mapped_kinds[i] = new_kind(mapped[i].short_descriptor, 0);
  }
  unsigned proc = GC_new_proc(mark_word);
  proc_word = any_below(5);
  proc_kind = new_kind(GC_MAKE_PROC((GC_word)proc, (GC_word)proc_word), 0);
  long_kind = new_kind(GC_DS_LENGTH, 1);
  short_words = 1 + any_below(4);
  short_kind = new_kind(short_words * sizeof(GC_word) | GC_DS_LENGTH, 0);
  blind_kind = new_kind(GC_DS_LENGTH, 0);
  own_kind = new_kind(sizeof(GC_word) | GC_DS_PER_OBJECT, 0);
}

/* ---- holders and targets ---- */

static void read_only(size_t first, size_t end) {
  memset(chosen.read, 0, sizeof chosen.read);
  for (size_t w = first; w < end && w < chosen.words; w++) chosen.read[w] = true;
}

static NOINLINE void fill(void ***holders, void **make(void), size_t word) {
  for (int i = 0; i < COPIES; i++) {
    void **holder = make();
    REQUIRE(holder != NULL);
    void *target = GC_malloc(56);
    *(GC_word *)target = GC_HIDE_POINTER(target);
    holder[word] = target;
    watch(i, target);
    holders[i] = holder;
  }
}

static void check_targets(void ***holders, size_t word) {
  for (int i = 0; i < COPIES; i++) REQUIRE(GC_HIDE_POINTER(holders[i][word]) == *(GC_word *)holders[i][word]);
}

static NOINLINE void free_all(void ***holders) {
  for (int i = 0; i < COPIES; i++) GC_free(holders[i]);
}

static void hold(const char *name, void **make(void), size_t word, bool is_read) {
  void ***holders = GC_malloc_uncollectable(COPIES * sizeof(void *));
  fill(holders, make, word);
  settle();
  int dead = count_dead();
  say("%s of %zu words, word %zu: %s dead", name, chosen.words, word, share(dead, COPIES));
  REQUIRE(!is_read || dead == 0);
  if (is_read) check_targets(holders, word);
  if (make == uncollectable || make == uncollectable_grown) free_all(holders);
  GC_free(holders);
}

static void hold_by(const char *name, void **make(void)) {
  size_t word = any_below(chosen.words);
  hold(name, make, word, chosen.read[word]);
}

static void typed_step(void) {
  choose_layout(&chosen, WORDS_MAX);
  descriptor = GC_make_descriptor(chosen.bitmap, chosen.words);
  if (any_chance(50)) {
    hold_by("typed", typed);
    return;
  }
  elements = 1 + any_below(any_chance(30) ? 60 : 6);
  size_t word = any_below(chosen.words), element = any_below(elements);
  say("array of %zu, element %zu", elements, element);
  hold("typed array", typed_array, element * chosen.words + word, chosen.read[word]);
}

static void plain_step(void) {
  choose_layout(&chosen, WORDS_MAX);
  read_only(0, chosen.words);
  switch (any_below(7)) {
    case 0:
      hold_by("uncollectable", uncollectable);
      break;
    case 3:
      hold_by("plain, grown", plain_grown);
      break;
    case 4:
      read_only(0, 0);
      hold_by("atomic, grown", atomic_grown);
      break;
    case 5:
      hold_by("uncollectable, grown", uncollectable_grown);
      break;
    case 1:
      read_only(0, 0);
      hold_by("atomic", atomic);
      break;
    case 2:
      kind = long_kind;
      hold_by("kind, all words", of_kind);
      break;
    default:
      hold_by("plain", plain);
  }
}

static void described_step(void) {
  size_t which = any_below(MAPPED_KINDS);
  choose_layout(&chosen, MAPPED_WORDS);
  switch (any_below(7)) {
    case 6:
      chosen.words += 5;
      hold("debug, with a type", debug_gcj, any_chance(50) ? DEBUG_WORD : DEBUG_WORD + 1, false);
      break;
    case 0:
      chosen = mapped[which];
      kind = mapped_kinds[which];
      hold_by("kind with a map", of_kind);
      break;
    case 1:
      chosen.words += 5;
      read_only(proc_word, proc_word + 1);
      kind = proc_kind;
      hold("kind with a procedure", of_kind, any_chance(50) ? proc_word : (proc_word + 1) % 5, false);
      break;
    case 2:
      chosen.words += 4;
      read_only(0, short_words);
      kind = short_kind;
      hold_by("kind, first words", of_kind);
      break;
    case 3:
      read_only(0, 0);
      kind = blind_kind;
      hold_by("kind, no words", of_kind);
      break;
    case 4:
      chosen.words += 2;
      kind = own_kind;
      size_t own = 2 + any_below(chosen.words - 2);
      hold("described by itself", described_by_itself, own, own < 62 && chosen.read[own]);
      break;
    default:
      chosen.words += 1;
      type_structure.descriptor = chosen.short_descriptor;
      size_t word = 1 + any_below(chosen.words - 1);
      hold("with a type", gcj, word, word < 62 && chosen.read[word]);
  }
}

/* An address inside an object, from the heap or from static data: counts where interior pointers do. */
static void **inner; /* uncollectable */
static size_t inner_offset, inner_bytes;

static NOINLINE void fill_inner(void) {
  for (int i = 0; i < COPIES; i++) {
    char *target = GC_malloc(inner_bytes);
    watch(i, target);
    inner[i] = target + inner_offset;
  }
}

static void inner_step(void) {
  inner_bytes = 16 + any_below(20000);
  inner_offset = any_below(inner_bytes);
  inner = GC_malloc_uncollectable(COPIES * sizeof(void *));
  if (!interior_pointers) inner_offset = 0;
  fill_inner();
  settle();
  int dead = count_dead();
  say("address %zu of %zu: %s dead", inner_offset, inner_bytes, share(dead, COPIES));
  REQUIRE(dead == 0);
  GC_free(inner);
}

void kinds_step(void) {
  switch (any_below(6)) {
    case 0:
      plain_step();
      break;
    case 1:
      inner_step();
      break;
    case 2:
    case 3:
      described_step();
      break;
    default:
      typed_step();
  }
}
