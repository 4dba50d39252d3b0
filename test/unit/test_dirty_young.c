/* What is allocated while dirty-page mode marks, on a forced schedule: it is white.  What the program drops before the stop is
 * gone at the end of this very cycle, and what it keeps is found, whatever keeps it: another young object, an old one that was
 * written, static data, a stack, a young root object.  A word that named the slot while it was free keeps nothing there.
 * Windows that are given back meanwhile leave neither mark nor count behind, which the verifier sees.
 *
 * Stacks are scanned again for it when the modules may have changed that have thread-local storage: that is left to the stop.
 * The stop looks for young root objects, and passes old ones over. */
#define _GNU_SOURCE 1
#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gc/assist.h"
#include "gc/concurrent.h"
#include "mutator/world.h"
#include "span/guard.h"
#include "span/mark_bits.h"
#include "span/slots.h"
#include "support/cycle_steps.h"
#include "support/dirty_test.h"

enum { BALLAST_NODES = 32768, VALUE = 0x5eed, KEPT_MOST = 4096 };

struct node {
  struct node *next;
  uintptr_t value;
  uintptr_t more[6];
};

static struct node *ballast; /* heaps of less than a megabyte are marked in a stop */
static struct node *kept;

static struct node *node_new(struct node *next) {
  struct node *node = midden_alloc(sizeof *node);
  REQUIRE(node != NULL, "out of memory");
  node->next = next;
  node->value = VALUE;
  return node;
}

static bool is_whole(const struct node *node) {
  struct node zeros = {.value = VALUE, .next = node->next};
  return midden_base(node) == node && memcmp(node, &zeros, sizeof zeros) == 0;
}

/* What is free is filled anew: a lost object would change. */
NOINLINE_TEST static void fill_free_memory(void) {
  for (int i = 0; i < 4 * BALLAST_NODES; i++) memset(midden_alloc_data(sizeof(struct node)), 0xdd, sizeof(struct node));
}

/* Roots are read, those of root kinds too; the heap is not. */
static struct cycle_step walked;

void __real_assist_drain(struct cycle *running);
void __wrap_assist_drain(struct cycle *running);

void __wrap_assist_drain(struct cycle *running) {
  cycle_wait_at(&walked);
  __real_assist_drain(running);
}

size_t __real_mark_bits_clear_slots(const struct arena *arena, unsigned side, uintptr_t start, uintptr_t end,
                                    size_t slot_bytes);
size_t __wrap_mark_bits_clear_slots(const struct arena *arena, unsigned side, uintptr_t start, uintptr_t end,
                                    size_t slot_bytes);

static unsigned windows_given_back; /* atomic; while a cycle marked */

/* Once its allocation bit is gone, a slot may be another thread's, and so is its mark. */
size_t __wrap_mark_bits_clear_slots(const struct arena *arena, unsigned side, uintptr_t start, uintptr_t end,
                                    size_t slot_bytes) {
  if (atomic_load_relaxed(&span_marking) && side == mark_side()) {
    REQUIRE(mark_bit_get(arena, alloc_side(), start), "a mark is cleared in a slot that was given back before");
    atomic_add_relaxed(&windows_given_back, 1U);
  }
  return __real_mark_bits_clear_slots(arena, side, start, end, slot_bytes);
}

/* In stops: root objects that are marked, spans of which is asked whether all is. */
struct looks {
  size_t objects, spans; /* atomic */
};

static struct looks looks;

void __real_mark_address(struct midden_tracer *tracer, uintptr_t address);
void __wrap_mark_address(struct midden_tracer *tracer, uintptr_t address);
bool __real_slots_all_marked(const struct span *span);
bool __wrap_slots_all_marked(const struct span *span);

/* The checker looks at all. */
void __wrap_mark_address(struct midden_tracer *tracer, uintptr_t address) {
  if (world_is_stopped() && tracer->visit == NULL) atomic_add_relaxed(&looks.objects, (size_t)1);
  __real_mark_address(tracer, address);
}

bool __wrap_slots_all_marked(const struct span *span) {
  if (world_is_stopped()) atomic_add_relaxed(&looks.spans, (size_t)1);
  return __real_slots_all_marked(span);
}

static size_t closed_module; /* atomic; whose storage is no more */
static unsigned rounds_with_stacks;

bool __real_mutator_visit_storage(const struct mutator *mutator, const struct os_tls_module *modules,
                                  size_t module_count, bool running, mutator_visit_fn *visit, void *argument);
bool __wrap_mutator_visit_storage(const struct mutator *mutator, const struct os_tls_module *modules,
                                  size_t module_count, bool running, mutator_visit_fn *visit, void *argument);
void __real_concurrent_scan_threads_again(struct cycle *running);
void __wrap_concurrent_scan_threads_again(struct cycle *running);

bool __wrap_mutator_visit_storage(const struct mutator *mutator, const struct os_tls_module *modules,
                                  size_t module_count, bool running, mutator_visit_fn *visit, void *argument) {
  size_t closed = atomic_load_acquire(&closed_module);
  for (size_t i = 0; closed != 0 && i < module_count; i++)
    REQUIRE(modules[i].module != closed, "%zu bytes of storage are read of a module that was closed", modules[i].bytes);
  return __real_mutator_visit_storage(mutator, modules, module_count, running, visit, argument);
}

void __wrap_concurrent_scan_threads_again(struct cycle *running) {
  __real_concurrent_scan_threads_again(running);
  rounds_with_stacks++;
}

static void begin_at(struct cycle_step *step) {
  test_scrub_stack();
  midden_collect(); /* nothing is left to be swept */
  cycle_begin(step);
}

static void begin(void) { begin_at(&walked); }

static void go_on_until_walked(struct cycle_step *from) {
  walked.waits = true;
  cycle_go_on(from);
  await(&walked.reached);
}

static void end_unfilled(void) {
  uint64_t before = test_stats().collections;
  cycle_go_on(&walked);
  cycle_end();
  REQUIRE(test_stats().collections > before, "no cycle ended");
}

static void end(void) {
  end_unfilled();
  fill_free_memory();
}

NOINLINE_TEST static void make_and_drop(void) {
  struct node *node = node_new(node_new(NULL));
  watched = midden_weak_new(node);
  dropped = midden_weak_new(node->next);
}

static void what_is_dropped_in_the_cycle_is_gone_with_it(void **state) {
  (void)state;
  begin();
  make_and_drop();
  test_scrub_stack();
  end();
  assert_null(midden_weak_get(watched));
  assert_null(midden_weak_get(dropped));
}

static void what_static_data_and_a_stack_keep_lives(void **state) {
  (void)state;
  begin();
  kept = node_new(node_new(NULL));
  struct node *volatile local = node_new(node_new(NULL));
  end();
  assert_true(is_whole(kept) && is_whole(kept->next));
  assert_true(is_whole(local) && is_whole(local->next));
}

static void what_an_old_object_refers_to_lives(void **state) {
  (void)state;
  begin();
  struct node *node = ballast;
  for (int i = 0; i < BALLAST_NODES / 2; i++) node = node->next;
  node->more[0] = (uintptr_t)node_new(node_new(NULL));
  end();
  const struct node *young = (const struct node *)node->more[0];
  assert_true(is_whole(young) && is_whole(young->next));
  node->more[0] = 0;
}

/* ---- words that name free slots ---- */

/* Nobody but the test knows where they are. */
static uintptr_t hidden[KEPT_MOST];

enum { GAP_OBJECTS = KEPT_MOST, GAP_BYTES = 208, GAP_INTERVAL = 8, GAP_TRIES = 1 << 20 };

static void **gap_holder; /* large: nobody else writes on its pages */
static void *gap_neighbours[GAP_OBJECTS / GAP_INTERVAL];

NOINLINE_TEST static void make_gaps(void) {
  for (size_t i = 0; i < GAP_OBJECTS; i++) {
    hidden[i] = test_hide(midden_alloc(GAP_BYTES));
    if (i % GAP_INTERVAL == 0) gap_neighbours[i / GAP_INTERVAL] = test_unhide(hidden[i]);
  }
}

/* Between two that live, so that its span is in use; in nobody's window. */
static uintptr_t *find_hidden_gap(void) {
  for (size_t i = GAP_OBJECTS; i-- != 0;) {
    if (!mark_bit_get(&heap_arena, alloc_side(), (uintptr_t)test_unhide(hidden[i]))) return &hidden[i];
  }
  REQUIRE(false, "no slot is free");
  return NULL;
}

NOINLINE_TEST static void allocate_until_at(const uintptr_t *hidden_slot) {
  size_t tries = 0;
  while (test_hide(midden_alloc(GAP_BYTES)) != *hidden_slot)
    REQUIRE(++tries < GAP_TRIES, "the slot was not used again");
}

/* The word is no reference to the young object that came to lie there, and check mode does not take it for one. */
static void what_lies_where_a_word_named_a_free_slot_is_gone(void **state) {
  (void)state;
  make_gaps();
  gap_holder = midden_alloc(100000);
  begin();
  const uintptr_t *hidden_slot = find_hidden_gap();
  gap_holder[5000] = test_unhide(*hidden_slot);
  go_on_until_walked(&walked); /* the holder was scanned, and, since it was written, once more */
  allocate_until_at(hidden_slot);
  test_scrub_stack();
  end_unfilled();
  assert_null(midden_base(gap_holder[5000]));
  gap_holder = NULL;
  memset(gap_neighbours, 0, sizeof gap_neighbours);
}

/* ---- root objects ---- */

NOINLINE_TEST static void make_roots(size_t count, size_t bytes) {
  for (size_t i = 0; i < count; i++) {
    struct node **root = midden_alloc_kind(MIDDEN_ROOT, bytes);
    REQUIRE(root != NULL, "out of memory");
    root[0] = node_new(NULL);
    root[bytes / sizeof(void *) - 1] = node_new(NULL);
    hidden[i] = test_hide(root);
  }
}

static void check_and_free_roots(size_t count, size_t bytes) {
  for (size_t i = 0; i < count; i++) {
    struct node **root = test_unhide(hidden[i]);
    REQUIRE(midden_base(root) == root, "root object %zu of %zu bytes is gone", i, bytes);
    REQUIRE(is_whole(root[0]) && is_whole(root[bytes / sizeof(void *) - 1]), "what root object %zu of %zu keeps", i,
            bytes);
    midden_free(root);
  }
}

/* The first few lie in a window that was there before; large ones, and spans of several pages, lie in several chunks. */
static void young_root_objects_live_and_keep(void **state) {
  (void)state;
  static const struct {
    size_t count, bytes;
  } sizes[] = {{KEPT_MOST, 16}, {KEPT_MOST, 48}, {1000, 1024}, {300, 24576}, {40, 100000}, {4, 5 << 20}};
  for (size_t i = 0; i < TEST_COUNT_OF(sizes); i++) {
    void *window = midden_alloc_kind(MIDDEN_ROOT, sizes[i].bytes);
    begin();
    make_roots(sizes[i].count, sizes[i].bytes);
    test_scrub_stack();
    end();
    check_and_free_roots(sizes[i].count, sizes[i].bytes);
    midden_free(window);
  }
}

NOINLINE_TEST static void make_root_data(void) {
  for (size_t i = 0; i < KEPT_MOST; i++) hidden[i] = test_hide(midden_alloc_kind(MIDDEN_ROOT_DATA, 32));
}

/* The thread keeps slots that it frees for its next objects. */
static void a_root_object_in_a_slot_freed_before_the_cycle_lives(void **state) {
  (void)state;
  test_scrub_stack();
  midden_collect();
  make_roots(KEPT_MOST, 64);
  check_and_free_roots(KEPT_MOST, 64);
  cycle_begin(&walked);
  make_roots(KEPT_MOST, 64);
  test_scrub_stack();
  end();
  check_and_free_roots(KEPT_MOST, 64);
}

static void young_root_data_lives(void **state) {
  (void)state;
  begin();
  make_root_data();
  test_scrub_stack();
  end();
  for (size_t i = 0; i < KEPT_MOST; i++) midden_free(test_unhide(hidden[i])); /* which aborts where it is no object */
}

enum { OLD_ROOTS = 400000, OLD_ROOT_BYTES = 64, YOUNG_ROOTS = 100 };

/* In a cycle in which some root objects are made. */
static struct looks looks_with_young_roots(void) {
  begin();
  make_roots(YOUNG_ROOTS, OLD_ROOT_BYTES);
  test_scrub_stack();
  looks = (struct looks){0};
  end_unfilled();
  struct looks seen = looks;
  check_and_free_roots(YOUNG_ROOTS, OLD_ROOT_BYTES);
  return seen;
}

static void *make_old_roots(void) {
  void *newest = NULL;
  for (size_t i = 0; i < OLD_ROOTS; i++) {
    void **root = midden_alloc_kind(MIDDEN_ROOT, OLD_ROOT_BYTES);
    REQUIRE(root != NULL, "out of memory");
    *root = newest;
    newest = root;
  }
  return newest;
}

static void free_old_roots(void *newest) {
  for (void *older; newest != NULL; newest = older) {
    older = *(void **)newest;
    midden_free(newest);
  }
}

/* The young ones lie beside some old ones in a span or two, in a chunk or two. */
static void the_stop_passes_old_root_objects_over(void **state) {
  (void)state;
  struct looks few = looks_with_young_roots();
  void *old = make_old_roots();
  struct looks many = looks_with_young_roots();
  free_old_roots(old);
  assert_true(many.objects <= few.objects + OLD_ROOTS / 100);
  assert_true(many.spans <= few.spans + 2 * CHUNK_PAGES);
}

/* ---- windows ---- */

static void *volatile into_window; /* static data: a conservative reference to what nobody has allocated */

/* Before static data is read: a marker finds a slot of the window. */
NOINLINE_TEST static struct node *make_beside_window(void) {
  struct node *node = node_new(NULL);
  while (midden_base(node + 1) != NULL) node = node_new(NULL); /* the slot behind it is taken */
  into_window = node + 1;
  return node;
}

static void forget_kept(void) {
  kept = NULL;
  into_window = NULL;
}

static sem_t has_made, may_end;

static void *make_and_end(void *unused) {
  kept = make_beside_window();
  midden_alloc_kind(MIDDEN_ROOT, 48);
  sem_post(&has_made);
  midden_blocking_enter();
  await(&may_end);
  midden_blocking_leave();
  return unused;
}

static void a_thread_that_ends_gives_its_windows_back(void **state) {
  (void)state;
  windows_given_back = 0;
  for (int i = 0; i < 8; i++) {
    forget_kept();
    begin_at(&cycle.scanned);
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, make_and_end, NULL) == 0, "pthread_create");
    await(&has_made);
    go_on_until_walked(&cycle.scanned);
    sem_post(&may_end);
    midden_blocking_enter();
    pthread_join(thread, NULL);
    midden_blocking_leave();
    end_unfilled();
    assert_null(midden_base(into_window));
    fill_free_memory();
    assert_true(is_whole(kept));
    midden_verify();
  }
  assert_true(guard_active || atomic_load_relaxed(&windows_given_back) >= 8); /* guarded slots are claimed one by one */
  forget_kept();
}

/* So does one that lives on, when the profile is switched on or off. */
static void a_profile_that_begins_gives_windows_back(void **state) {
  (void)state;
  for (int i = 0; i < 8; i++) {
    forget_kept();
    begin_at(&cycle.scanned);
    kept = make_beside_window();
    go_on_until_walked(&cycle.scanned);
    REQUIRE((i % 2 == 0 ? midden_profile_start(4096) : midden_profile_stop()) == 0, "profile");
    struct node *volatile other = node_new(NULL);
    end();
    assert_true(is_whole(kept) && is_whole(other));
    midden_verify();
  }
  forget_kept();
}

/* ---- thread-local storage ---- */

/* More than a round lets pass without looking at the stacks. */
static void allocate_for_a_round(void) {
  for (size_t i = 0; i < BALLAST_NODES; i++) node_new(NULL);
}

/* It has thread-local storage, under this number. */
static void *open_library(size_t *module) {
  void *library = dlopen(DL_OS_DYNAMIC_PATH, RTLD_NOW);
  REQUIRE(library != NULL && dlinfo(library, RTLD_DI_TLS_MODID, module) == 0 && *module != 0, "dlopen: %s", dlerror());
  return library;
}

static void storage_of_a_module_closed_in_the_cycle_is_not_read(void **state) {
  (void)state;
  size_t module = 0;
  void *library = open_library(&module);
  begin();
  REQUIRE(dlclose(library) == 0 && dlopen(DL_OS_DYNAMIC_PATH, RTLD_NOW | RTLD_NOLOAD) == NULL, "dlclose");
  atomic_store_release(&closed_module, module);
  rounds_with_stacks = 0;
  allocate_for_a_round();
  end_unfilled();
  assert_true(rounds_with_stacks > 0);
  atomic_store_release(&closed_module, (size_t)0);
}

/* ---- what the program frees ---- */

static void what_is_freed_in_the_cycle_waits_for_its_end(void **state) {
  (void)state;
  begin();
  for (int i = 0; i < 1000; i++) {
    struct node *node = node_new(NULL);
    node = midden_realloc(node, 4 * sizeof *node);
    REQUIRE(node != NULL && node->value == VALUE, "realloc");
    midden_free(node);
  }
  end();
  midden_verify();
}

int main(void) {
  if (!test_writes_are_told()) return TEST_SKIPPED;
  test_start("unit/dirty_young");
  cycle_init_dirty(MIDDEN_GENERATIONS_OFF, MIDDEN_DEBUG_CHECK | MIDDEN_DEBUG_VERIFY);
  cycle_step_init(&walked);
  sem_init(&has_made, 0, 0);
  sem_init(&may_end, 0, 0);
  for (int i = 0; i < BALLAST_NODES; i++) ballast = node_new(ballast);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_is_dropped_in_the_cycle_is_gone_with_it),
      cmocka_unit_test(what_static_data_and_a_stack_keep_lives),
      cmocka_unit_test(what_an_old_object_refers_to_lives),
      cmocka_unit_test(what_lies_where_a_word_named_a_free_slot_is_gone),
      cmocka_unit_test(young_root_objects_live_and_keep),
      cmocka_unit_test(a_root_object_in_a_slot_freed_before_the_cycle_lives),
      cmocka_unit_test(young_root_data_lives),
      cmocka_unit_test(the_stop_passes_old_root_objects_over),
      cmocka_unit_test(a_thread_that_ends_gives_its_windows_back),
      cmocka_unit_test(a_profile_that_begins_gives_windows_back),
      cmocka_unit_test(storage_of_a_module_closed_in_the_cycle_is_not_read),
      cmocka_unit_test(what_is_freed_in_the_cycle_waits_for_its_end),
  };
  return test_run_group(tests);
}
