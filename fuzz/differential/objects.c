/* Objects that are held in a table: allocated in every way, filled, resized and freed, and found as they were left. */
#include <errno.h>
#include <string.h>

#include "differential.h"

#include "gc/gc_disclaim.h"
#include "gc/gc_gcj.h"
#include "gc/gc_inline.h"
#include "gc/gc_mark.h"
#include "gc/gc_typed.h"

/* ---- ways to allocate ---- */

/* The first word is one that may be a pointer. */
enum { FIRST_WORD = sizeof(GC_word) | GC_DS_LENGTH };

static const struct {
  const char *name;
  GC_word descriptor;
} type_structure = {"type", FIRST_WORD};

static struct GC_finalizer_closure closure;

/* Never of an object that is held. */
static void on_closed(void *object, void *argument) {
  REQUIRE(object != NULL && argument == &closure);
  for (int i = 0; i < OBJECTS; i++) REQUIRE(objects_at(i) != object);
}

static void *by_kind(size_t bytes) { return GC_malloc_kind(bytes, GC_I_NORMAL); }
static void *by_kind_atomic(size_t bytes) { return GC_malloc_kind(bytes, GC_I_PTRFREE); }
static void *by_kind_global(size_t bytes) { return GC_malloc_kind_global(bytes, GC_I_NORMAL); }
static void *generic(size_t bytes) { return GC_generic_malloc(bytes, GC_I_NORMAL); }
static void *generic_atomic(size_t bytes) { return GC_generic_malloc(bytes, GC_I_PTRFREE); }
static void *generic_off_page(size_t bytes) { return GC_generic_malloc_ignore_off_page(bytes, GC_I_NORMAL); }
static void *generic_uncollectable(size_t bytes) { return GC_generic_malloc_uncollectable(bytes, 2); }
static void *special(size_t bytes) { return GC_generic_or_special_malloc(bytes, GC_I_NORMAL); }
static void *special_uncollectable(size_t bytes) { return GC_generic_or_special_malloc(bytes, 2); }
static void *special_atomic_uncollectable(size_t bytes) { return GC_generic_or_special_malloc(bytes, 3); }
static void *fresh_realloc(size_t bytes) { return GC_realloc(NULL, bytes); }
static void *debug(size_t bytes) { return GC_debug_malloc(bytes, GC_EXTRAS); }
static void *debug_atomic(size_t bytes) { return GC_debug_malloc_atomic(bytes, GC_EXTRAS); }
static void *debug_uncollectable(size_t bytes) { return GC_debug_malloc_uncollectable(bytes, GC_EXTRAS); }
static void *debug_atomic_uncollectable(size_t bytes) { return GC_debug_malloc_atomic_uncollectable(bytes, GC_EXTRAS); }
static void *debug_off_page(size_t bytes) { return GC_debug_malloc_ignore_off_page(bytes, GC_EXTRAS); }
static void *debug_atomic_off_page(size_t bytes) { return GC_debug_malloc_atomic_ignore_off_page(bytes, GC_EXTRAS); }
static void *debug_stubborn(size_t bytes) { return GC_debug_malloc_stubborn(bytes, GC_EXTRAS); }
static void *debug_special(size_t bytes) { return GC_debug_generic_or_special_malloc(bytes, GC_I_NORMAL, GC_EXTRAS); }
static void *debug_realloc(size_t bytes) { return GC_debug_realloc(NULL, bytes, GC_EXTRAS); }
static void *with_closure(size_t bytes) { return GC_finalized_malloc(bytes, &closure); }
static void *gcj(size_t bytes) { return GC_gcj_malloc(bytes | sizeof(void *), (void *)&type_structure); }

static void *gcj_off_page(size_t bytes) {
  return GC_gcj_malloc_ignore_off_page(bytes | sizeof(void *), (void *)&type_structure);
}

/* The stock library promises to clear typed objects and does not; and it has links in arrays, so that they may not be freed. */
static void *typed(size_t bytes) { return GC_malloc_explicitly_typed(bytes + sizeof(void *), FIRST_WORD); }

static void *typed_off_page(size_t bytes) {
  return GC_malloc_explicitly_typed_ignore_off_page(bytes + sizeof(void *), FIRST_WORD);
}

static void *typed_array(size_t bytes) {
  static const size_t elements[] = {8, 16, 24, 104};
  size_t element = elements[bytes % 4];
  return GC_calloc_explicitly_typed(bytes / element + 1, element, FIRST_WORD);
}

static bool is_zero(const unsigned char *bytes, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (bytes[i] != 0) return false;
  return true;
}

/* The first of a list; the others are dropped. */
static void *first_of(void *list, size_t bytes) {
  for (void *at = list; at != NULL; at = GC_NEXT(at))
    REQUIRE(bytes <= sizeof(void *) || is_zero((unsigned char *)at + sizeof(void *), bytes - sizeof(void *)));
  if (list != NULL) GC_NEXT(list) = NULL;
  return list;
}

static void *many(size_t bytes) { return first_of(GC_malloc_many(bytes + 1), bytes + 1); }

/* The list must be somewhere where it is traced; the size is one of whole granules, and with the room past the end that
 * others have by themselves. */
static void *generic_many(size_t bytes) {
  static void *list;
  size_t whole = bytes / GC_GRANULE_BYTES * GC_GRANULE_BYTES + GC_GRANULE_BYTES;
  GC_generic_malloc_many(whole, GC_I_NORMAL, &list);
  void *first = first_of(list, whole);
  list = NULL;
  return first;
}

static void **inline_lists; /* uncollectable: now and then static data are no roots */

/* By the macros for compilers, which leave the room past the end to their users.  Not of objects without pointers: nothing would
 * hold the rest of their list. */
static void *inlined(size_t bytes) {
  void *object;
  size_t words = bytes / sizeof(void *) + 1;
  GC_MALLOC_WORDS(object, words, inline_lists);
  return object;
}

static void *aligned(size_t bytes) {
  size_t alignment = (size_t)1 << any_below(13);
  char *object = GC_memalign(alignment, bytes);
  REQUIRE((GC_word)object % alignment == 0);
  return object;
}

static void *aligned_posix(size_t bytes) {
  size_t alignment = sizeof(void *) << any_below(10);
  void *object = NULL;
  REQUIRE(GC_posix_memalign(&object, alignment, bytes) == 0);
  REQUIRE((GC_word)object % alignment == 0);
  return object;
}

/* A string of so many bytes with its end, and in front of more. */
static char *string_of(size_t bytes) {
  char *string = malloc(bytes + 100);
  REQUIRE(string != NULL);
  for (size_t i = 0; i < bytes + 99; i++) string[i] = (char)('a' + i % 26);
  string[bytes + 99] = '\0';
  return string;
}

static void *check_copy(char *copy, char *string, size_t length) {
  REQUIRE(copy != NULL && strlen(copy) == length && memcmp(copy, string, length) == 0);
  free(string);
  return copy;
}

static void *copied(size_t bytes, char *copy(const char *, size_t)) {
  char *string = string_of(bytes);
  return check_copy(copy(string, bytes), string, bytes);
}

static char *whole(const char *string, size_t length) {
  ((char *)(GC_word)string)[length] = '\0';
  return GC_strdup(string);
}

static char *debug_whole(const char *string, size_t length) {
  ((char *)(GC_word)string)[length] = '\0';
  return GC_debug_strdup(string, GC_EXTRAS);
}

static char *debug_part(const char *string, size_t length) { return GC_debug_strndup(string, length, GC_EXTRAS); }

static void *by_strdup(size_t bytes) { return copied(bytes, whole); }
static void *by_strndup(size_t bytes) { return copied(bytes, GC_strndup); }
static void *by_debug_strdup(size_t bytes) { return copied(bytes, debug_whole); }
static void *by_debug_strndup(size_t bytes) { return copied(bytes, debug_part); }

/* ---- the table of ways ---- */

enum {
  ZEROED = 1,    /* a new object is, and what a larger one has more */
  RESIZED = 2,   /* may be given to GC_realloc */
  FREED = 4,     /* may be given to GC_free */
  PLAIN = 8,     /* the address is the object's base */
  DEBUG = 16,    /* by the debugging functions */
  HEADED = 32,   /* the first word belongs to the library */
  NO_LIMIT = 64, /* is not asked for more than there is */
};

struct form {
  const char *name;
  void *(*allocate)(size_t bytes);
  unsigned traits;
};

static const struct form forms[] = {
    {"malloc", GC_malloc, ZEROED | RESIZED | FREED | PLAIN},
    {"malloc_atomic", GC_malloc_atomic, RESIZED | FREED | PLAIN},
    {"malloc_uncollectable", GC_malloc_uncollectable, ZEROED | RESIZED | FREED | PLAIN},
    {"malloc_atomic_uncollectable", GC_malloc_atomic_uncollectable, RESIZED | FREED | PLAIN},
    {"malloc_ignore_off_page", GC_malloc_ignore_off_page, ZEROED | RESIZED | FREED | PLAIN},
    {"malloc_atomic_ignore_off_page", GC_malloc_atomic_ignore_off_page, RESIZED | FREED | PLAIN},
    {"malloc_stubborn", GC_malloc_stubborn, ZEROED | RESIZED | FREED | PLAIN},
    {"malloc_kind", by_kind, ZEROED | RESIZED | FREED | PLAIN},
    {"malloc_kind atomic", by_kind_atomic, RESIZED | FREED | PLAIN},
    {"malloc_kind_global", by_kind_global, ZEROED | RESIZED | FREED | PLAIN},
    {"generic_malloc", generic, ZEROED | RESIZED | FREED | PLAIN},
    {"generic_malloc atomic", generic_atomic, RESIZED | FREED | PLAIN},
    {"generic_malloc_ignore_off_page", generic_off_page, ZEROED | RESIZED | FREED | PLAIN},
    {"generic_malloc_uncollectable", generic_uncollectable, ZEROED | RESIZED | FREED | PLAIN},
    {"generic_or_special", special, ZEROED | RESIZED | FREED | PLAIN},
    {"generic_or_special uncollectable", special_uncollectable, ZEROED | RESIZED | FREED | PLAIN},
    {"generic_or_special atomic uncollectable", special_atomic_uncollectable, RESIZED | FREED | PLAIN},
    {"realloc of NULL", fresh_realloc, ZEROED | RESIZED | FREED | PLAIN},
    {"malloc_many", many, ZEROED | FREED | PLAIN | NO_LIMIT},
    {"generic_malloc_many", generic_many, ZEROED | FREED | PLAIN | NO_LIMIT},
    {"inline words", inlined, ZEROED | FREED | PLAIN | NO_LIMIT},
    {"memalign", aligned, NO_LIMIT},
    {"posix_memalign", aligned_posix, NO_LIMIT},
    {"typed", typed, FREED | PLAIN | NO_LIMIT},
    {"typed ignore_off_page", typed_off_page, FREED | PLAIN | NO_LIMIT},
    {"typed array", typed_array, PLAIN | NO_LIMIT},
    {"finalized", with_closure, ZEROED},
    {"gcj", gcj, ZEROED | FREED | PLAIN | HEADED},
    {"gcj ignore_off_page", gcj_off_page, ZEROED | FREED | PLAIN | HEADED},
    {"strdup", by_strdup, RESIZED | FREED | PLAIN | NO_LIMIT},
    {"strndup", by_strndup, RESIZED | FREED | PLAIN | NO_LIMIT},
    {"debug malloc", debug, ZEROED | RESIZED | FREED | DEBUG},
    {"debug malloc_atomic", debug_atomic, RESIZED | FREED | DEBUG},
    {"debug malloc_uncollectable", debug_uncollectable, ZEROED | RESIZED | FREED | DEBUG},
    {"debug malloc_atomic_uncollectable", debug_atomic_uncollectable, RESIZED | FREED | DEBUG},
    {"debug malloc_ignore_off_page", debug_off_page, ZEROED | RESIZED | FREED | DEBUG},
    {"debug malloc_atomic_ignore_off_page", debug_atomic_off_page, RESIZED | FREED | DEBUG},
    {"debug malloc_stubborn", debug_stubborn, ZEROED | RESIZED | FREED | DEBUG},
    {"debug malloc_replacement", GC_debug_malloc_replacement, ZEROED | RESIZED | FREED | DEBUG},
    {"debug generic_or_special", debug_special, ZEROED | RESIZED | FREED | DEBUG},
    {"debug realloc of NULL", debug_realloc, ZEROED | RESIZED | FREED | DEBUG},
    {"debug strdup", by_debug_strdup, RESIZED | FREED | DEBUG | NO_LIMIT},
    {"debug strndup", by_debug_strndup, RESIZED | FREED | DEBUG | NO_LIMIT},
};

enum { FORMS = sizeof forms / sizeof forms[0], LISTENERS = 2 };

/* ---- the table of objects ---- */

struct held {
  const struct form *form; /* NULL: none */
  size_t bytes;
  unsigned pattern;
};

static void **table; /* uncollectable: what keeps them */
static struct held held[OBJECTS];
static void (*listeners[LISTENERS])(void *object);

void objects_on_free(void (*before)(void *object)) {
  int at = listeners[0] == NULL ? 0 : 1;
  listeners[at] = before;
}

static void tell(void *object) {
  for (int i = 0; i < LISTENERS; i++)
    if (listeners[i] != NULL) listeners[i](object);
}

void *objects_at(int index) { return held[index].form != NULL ? table[index] : NULL; }
bool objects_is_plain(int index) { return held[index].form != NULL && (held[index].form->traits & PLAIN); }
size_t objects_bytes_at(int index) { return held[index].bytes; }

void *objects_any(void) {
  int index = (int)any_below(OBJECTS);
  return objects_is_plain(index) ? table[index] : NULL;
}

static size_t header(const struct form *form) { return form->traits & HEADED ? sizeof(void *) : 0; }

/* Of bytes from 128 on: no word of them is an address. */
static unsigned char pattern_byte(unsigned pattern, size_t at) {
  return (unsigned char)(128 | (pattern + at * 7 + at / 251));
}

static void fill(int index) {
  unsigned char *object = table[index];
  for (size_t i = header(held[index].form); i < held[index].bytes; i++)
    object[i] = pattern_byte(held[index].pattern, i);
}

static void check_filled(int index, size_t count) {
  const unsigned char *object = table[index];
  for (size_t i = header(held[index].form); i < count; i++) REQUIRE(object[i] == pattern_byte(held[index].pattern, i));
  if (header(held[index].form)) REQUIRE(*(void **)table[index] == (void *)&type_structure);
}

/* A block of the system's own, once it is large enough, is where its address says: ask of both ends. */
static void check_questions(const struct held *one, char *object) {
  size_t last = one->bytes ? one->bytes - 1 : 0;
  REQUIRE(GC_is_heap_ptr(object) && GC_is_heap_ptr(object + last));
  REQUIRE(GC_base(object) != NULL && GC_base(object + last) == GC_base(object));
  if (!(one->form->traits & PLAIN)) return;
  REQUIRE(GC_base(object) == object && GC_base(object + last) == object);
  REQUIRE(GC_size(object) >= one->bytes);
  REQUIRE(one->bytes < GC_GRANULE_BYTES || (GC_word)object % GC_GRANULE_BYTES == 0);
  size_t bytes = 0;
  int kind = GC_get_kind_and_size(object, &bytes);
  REQUIRE(kind >= 0 && bytes == GC_size(object));
}

static NOINLINE void make(int index, const struct form *form, size_t bytes) {
  struct held *one = &held[index];
  say("%s %zu", form->name, bytes);
  char *object = form->allocate(bytes);
  REQUIRE(object != NULL);
  table[index] = object;
  *one = (struct held){.form = form, .bytes = bytes, .pattern = (unsigned)any_below(1000)};
  if (one->bytes < header(form)) one->bytes = header(form);
  size_t start = header(form);
  if (form->traits & ZEROED) REQUIRE(is_zero((unsigned char *)object + start, one->bytes - start));
  check_questions(one, object);
  fill(index);
}

static NOINLINE void drop(int index) {
  say("drop %s %zu", held[index].form->name, held[index].bytes);
  check_filled(index, held[index].bytes);
  tell(table[index]);
  table[index] = NULL;
  held[index].form = NULL;
}

static NOINLINE void end(int index) {
  const struct form *form = held[index].form;
  if (!(form->traits & FREED) || any_chance(30)) {
    drop(index);
    return;
  }
  say("free %s %zu", form->name, held[index].bytes);
  check_filled(index, held[index].bytes);
  tell(table[index]);
  if (form->traits & DEBUG)
    GC_debug_free(table[index]);
  else
    GC_free(table[index]);
  table[index] = NULL;
  held[index].form = NULL;
}

static void *resized(const struct held *one, void *object, size_t bytes) {
  if (!(one->form->traits & DEBUG)) return GC_realloc(object, bytes);
  return any_chance(50) ? GC_debug_realloc(object, bytes, GC_EXTRAS) : GC_debug_realloc_replacement(object, bytes);
}

static NOINLINE void resize(int index) {
  struct held *one = &held[index];
  size_t before = one->bytes, bytes = any_chance(50) ? any_size() : any_below(before + 40);
  size_t kept = bytes < before ? bytes : before;
  say("realloc %s %zu to %zu", one->form->name, before, bytes);
  tell(table[index]);
  table[index] = resized(one, table[index], bytes);
  if (bytes == 0) {
    REQUIRE(table[index] == NULL);
    one->form = NULL;
    return;
  }
  REQUIRE(table[index] != NULL);
  one->bytes = bytes;
  check_filled(index, kept);
  if (one->form->traits & ZEROED) REQUIRE(is_zero((unsigned char *)table[index] + kept, bytes - kept));
  check_questions(one, table[index]);
  fill(index);
}

/* ---- steps ---- */

void objects_init(void) {
  closure = (struct GC_finalizer_closure){.proc = on_closed, .cd = &closure};
  GC_init_finalized_malloc();
  table = GC_malloc_uncollectable(OBJECTS * sizeof(void *));
  inline_lists = GC_malloc_uncollectable(GC_TINY_FREELISTS * sizeof(void *));
  REQUIRE(table != NULL && inline_lists != NULL);
}

void objects_step(void) {
  int index = (int)any_below(OBJECTS);
  if (held[index].form == NULL)
    make(index, &forms[any_below(FORMS)], any_size());
  else if ((held[index].form->traits & RESIZED) && any_chance(60))
    resize(index);
  else
    end(index);
}

void objects_check(void) {
  for (int i = 0; i < OBJECTS; i++) {
    if (held[i].form == NULL) continue;
    check_filled(i, held[i].bytes);
    check_questions(&held[i], table[i]);
  }
}

void objects_release(void) {
  for (int i = 0; i < OBJECTS; i++)
    if (held[i].form != NULL) end(i);
  GC_free(table);
  table = NULL;
  settle();
}

/* ---- more than there is ---- */

static int asked;
static size_t asked_bytes;
static char *granted;

static void *on_shortage(size_t bytes) {
  asked++;
  asked_bytes = bytes;
  return granted;
}

static size_t any_huge(void) {
  size_t below = any_below(40);
  switch (any_below(5)) {
    case 0:
      return SIZE_MAX - below;
    case 1:
      return SIZE_MAX / 2 - below;
    case 2:
      return SIZE_MAX / 2 + 1 + below;
    case 3:
      return ((size_t)1 << 62) + below;
    default:
      return ((size_t)1 << 50) + below;
  }
}

/* An object is left as it was where there is no memory for a larger one. */
static void resize_in_vain(size_t bytes) {
  int index = (int)any_below(OBJECTS);
  if (held[index].form == NULL || !(held[index].form->traits & RESIZED) || (held[index].form->traits & DEBUG)) return;
  say("realloc %s %zu to too much", held[index].form->name, held[index].bytes);
  REQUIRE(GC_realloc(table[index], bytes) == granted);
  check_filled(index, held[index].bytes);
}

static void overflow_typed(size_t bytes) {
  REQUIRE(GC_malloc_explicitly_typed(bytes, FIRST_WORD) == granted);
  say("typed of too much: asked %d", asked);
  asked = 0;
  size_t element = (bytes / 8 & ~(size_t)7) + 8;
  REQUIRE(GC_calloc_explicitly_typed(9, element, FIRST_WORD) == granted);
  say("typed array 9 of too much: asked %d", asked);
}

/* What the program's function returns is returned: nothing, or an object that it has kept for that. */
void shortage_step(void) {
  GC_oom_func before = GC_get_oom_fn();
  const struct form *form = &forms[any_below(FORMS)];
  size_t bytes = any_huge();
  GC_set_oom_fn(on_shortage);
  REQUIRE(GC_get_oom_fn() == on_shortage && GC_oom_fn == on_shortage);
  asked = 0;
  granted = NULL;
  if (any_chance(30)) {
    resize_in_vain(bytes);
  } else if (any_chance(20)) {
    overflow_typed(bytes);
  } else if (!(form->traits & NO_LIMIT)) {
    if (any_chance(50) && form < forms + 6) granted = objects_any();
    REQUIRE(form->allocate(bytes) == granted);
    say("%s of too much: asked %d", form->name, asked);
    if (!(form->traits & DEBUG)) REQUIRE(asked_bytes >= bytes);
  } else {
    void *object = &asked;
    REQUIRE(GC_memalign(64, bytes) == NULL);
    REQUIRE(GC_posix_memalign(&object, 64, bytes) == ENOMEM);
    say("memalign of too much: asked %d", asked);
    say("posix_memalign odd: %d %d", GC_posix_memalign(&object, 24, 8) == EINVAL,
        GC_posix_memalign(&object, 4, 8) == EINVAL);
  }
  granted = NULL;
  GC_set_oom_fn(before);
}
