/* The steps of a run, and what its parts share.
 *
 *   differential SEED [STEPS]     the log goes to standard output */
#include "differential.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

bool interior_pointers;

/* ---- decisions ---- */

static uint64_t state;

static uint64_t any_word(void) {
  uint64_t value = state += 0x9e3779b97f4a7c15u;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

size_t any_below(size_t bound) { return (size_t)(any_word() >> 16) % bound; }

bool any_chance(unsigned percent) { return any_below(100) < percent; }

size_t any_size(void) {
  size_t how = any_below(100);
  if (how < 45) return any_below(130);
  if (how < 80) return ((size_t)16 << any_below(12)) + any_below(3) - 1;
  if (how < 98) return any_below(20000);
  return any_below(3000000);
}

/* ---- the log ---- */

static long step;

void say(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  printf("%ld ", step);
  vprintf(format, arguments);
  putchar('\n');
  va_end(arguments);
}

const char *share(int count, int of) {
  if (count == 0) return "none";
  return 4 * count >= 3 * of ? "most" : "some";
}

/* ---- collections ---- */

/* Not instrumented: the address sanitizer would keep space around the array that stays as it was. */
__attribute__((noinline, no_sanitize("address"))) static void clear_stack(void) {
  volatile char waste[64 * 1024];
  for (size_t i = 0; i < sizeof waste; i++) waste[i] = 0;
}

NOINLINE void collect(void) {
  clear_stack();
  GC_gcollect();
}

NOINLINE void settle(void) {
  for (int i = 0; i < 3; i++) collect();
}

void collect_only_asked(bool only) {
  GC_set_disable_automatic_collection(only);
  if (only) collect();
}

/* ---- watched objects ---- */

static void *watched[COPIES];

NOINLINE void watch(int copy, void *object) {
  REQUIRE(object != NULL);
  watched[copy] = (void *)GC_HIDE_POINTER(object);
  REQUIRE(GC_general_register_disappearing_link(&watched[copy], object) == GC_SUCCESS);
}

int count_dead(void) {
  int dead = 0;
  for (int i = 0; i < COPIES; i++) {
    dead += watched[i] == NULL;
    REQUIRE(GC_unregister_disappearing_link(&watched[i]) == (watched[i] != NULL));
    watched[i] = (void *)GC_HIDE_POINTER(NULL);
  }
  return dead;
}

/* ---- ballast ---- */

/* A heap that is worth marking beside the program, and in which each mark goes through all of this. */
struct weight {
  struct weight *next;
  GC_word number, padding[4];
};

static struct weight **ballast; /* uncollectable; the list's head */
static size_t ballast_count;

static void load_ballast(void) {
  ballast_count = any_chance(25) ? 20000 + any_below(40000) : 0;
  say("ballast of %zu", ballast_count);
  ballast = GC_malloc_uncollectable(sizeof *ballast);
  for (size_t i = 0; i < ballast_count; i++) {
    struct weight *weight = GC_malloc(sizeof *weight);
    REQUIRE(weight != NULL);
    weight->next = *ballast;
    weight->number = i;
    *ballast = weight;
  }
}

/* New nodes take the places of some: pages of old objects are written. */
static void shift_ballast(void) {
  for (struct weight **at = ballast; *at != NULL; at = &(*at)->next) {
    if ((*at)->number % 64 != 0) continue;
    struct weight *weight = GC_malloc(sizeof *weight);
    *weight = **at;
    *at = weight;
  }
}

static void check_ballast(void) {
  size_t expected = ballast_count;
  for (const struct weight *weight = *ballast; weight != NULL; weight = weight->next)
    REQUIRE(weight->number == --expected);
  REQUIRE(expected == 0);
}

/* ---- steps ---- */

static const struct {
  void (*make)(void);
  size_t weight;
} steps[] = {{objects_step, 55}, {links_step, 12},  {links_dead_step, 2}, {finalizers_step, 8},
             {kinds_step, 5},    {roots_step, 2},   {settings_step, 8},   {collections_step, 4},
             {queries_step, 4},  {threads_step, 2}, {shortage_step, 3}};

enum { STEP_KINDS = sizeof steps / sizeof steps[0] };

static NOINLINE void make_step(void) {
  size_t all = 0, at = 0;
  for (int i = 0; i < STEP_KINDS; i++) all += steps[i].weight;
  size_t chosen = any_below(all);
  while (chosen >= steps[at].weight) chosen -= steps[at++].weight;
  steps[at].make();
}

/* What must be said before the library starts. */
static void start(void) {
  interior_pointers = any_chance(70);
  GC_set_all_interior_pointers(interior_pointers);
  GC_set_java_finalization(1);
  GC_set_handle_fork(1);
  GC_INIT();
  GC_allow_register_threads();
  GC_set_warn_proc(GC_ignore_warn_proc);
  load_ballast();
  objects_init();
  finalizers_init();
  kinds_init();
}

int main(int count, char **arguments) {
  if (count < 2) {
    fprintf(stderr, "usage: %s SEED [STEPS]\n", arguments[0]);
    return 2;
  }
  uint64_t seed = strtoull(arguments[1], NULL, 0);
  long steps_wanted = count > 2 ? strtol(arguments[2], NULL, 0) : 300;
  setvbuf(stdout, NULL, _IOLBF, 0);
  state = seed;
  say("seed %" PRIu64 ", %ld steps", seed, steps_wanted);
  start();
  for (step = 1; step <= steps_wanted; step++) {
    make_step();
    if (step % 16 != 0) continue;
    objects_check();
    check_ballast();
    shift_ballast();
  }
  objects_check();
  objects_release();
  finalizers_at_end();
  say("end");
  return 0;
}
