/* Disappearing links, long links, moves, and toggle references. */
#include "gc_check.h"

/* ---- registering ---- */

static void test_results(void) {
  static void *link;
  void *a = GC_malloc(40), *b = GC_malloc(40);
  CHECK_EQUAL(GC_unregister_disappearing_link(&link), 0);
  CHECK_EQUAL(GC_general_register_disappearing_link(&link, a), GC_SUCCESS);
  CHECK_EQUAL(GC_general_register_disappearing_link(&link, a), GC_DUPLICATE);
  CHECK_EQUAL(GC_general_register_disappearing_link(&link, b), GC_DUPLICATE);
  CHECK_EQUAL(GC_unregister_disappearing_link(&link), 1);
  CHECK_EQUAL(GC_unregister_disappearing_link(&link), 0);
  CHECK_EQUAL(GC_unregister_disappearing_link((void **)((char *)&link + 1)), 0);
  CHECK_EQUAL(GC_unregister_disappearing_link(NULL), 0);
  GC_reachable_here(a);
  GC_reachable_here(b);
}

/* ---- clearing ---- */

static NOINLINE void watch_dropped(void) {
  for (int i = 0; i < COUNT; i++) check_watch(i, GC_malloc(40));
}

static NOINLINE void watch_held(void **held) {
  for (int i = 0; i < COUNT; i++) check_watch(i, held[i] = GC_malloc(40));
}

static void test_clearing(void) {
  watch_dropped();
  check_collect();
  CHECK(check_count_dead() > NEARLY_ALL);
  void **held = GC_malloc(COUNT * sizeof(void *));
  watch_held(held);
  check_collect();
  for (int i = 0; i < COUNT; i++) CHECK(GC_REVEAL_POINTER(check_links[i]) == held[i]);
  memset(held, 0, COUNT * sizeof(void *));
  check_collect();
  CHECK(check_count_dead() > NEARLY_ALL);
  GC_reachable_here(held);
}

/* A link registered again follows the second object. */
static NOINLINE void watch_twice(void **second) {
  for (int i = 0; i < COUNT; i++) {
    check_watch(i, GC_malloc(40));
    second[i] = GC_malloc(48);
    CHECK_EQUAL(GC_general_register_disappearing_link(&check_links[i], second[i]), GC_DUPLICATE);
  }
}

static void test_duplicate_follows(void) {
  void **second = GC_malloc(COUNT * sizeof(void *));
  watch_twice(second);
  check_collect();
  CHECK_EQUAL(check_count_dead(), 0);
  GC_reachable_here(second);
}

/* Links inside collected, pointer-free objects; they end with their object. */
static NOINLINE void watch_from_heap(void ***links, void **held) {
  for (int i = 0; i < COUNT; i++) {
    held[i] = GC_malloc(40);
    links[i] = GC_malloc_atomic(sizeof(void *));
    *links[i] = held[i];
    CHECK_EQUAL(GC_general_register_disappearing_link(links[i], held[i]), GC_SUCCESS);
  }
}

static void test_links_in_heap(void) {
  void ***links = GC_malloc(COUNT * sizeof(void *));
  void **held = GC_malloc(COUNT * sizeof(void *));
  watch_from_heap(links, held);
  check_collect();
  for (int i = 0; i < COUNT; i++) CHECK(*links[i] == held[i]);
  memset(held, 0, COUNT * sizeof(void *));
  check_collect();
  int cleared = 0;
  for (int i = 0; i < COUNT; i++) cleared += *links[i] == NULL;
  CHECK(cleared > NEARLY_ALL);
  watch_from_heap(links, held);
  memset(links, 0, COUNT * sizeof(void *));
  check_collect(); /* the links are gone, their objects not: new objects in their place must stay as they are */
  for (int i = 0; i < COUNT; i++) *(void **)(links[i] = GC_malloc_atomic(sizeof(void *))) = links;
  memset(held, 0, COUNT * sizeof(void *));
  check_collect();
  for (int i = 0; i < COUNT; i++) CHECK(*links[i] == links);
  GC_reachable_here(held);
  GC_reachable_here(links);
}

/* A link in the object that it stands for. */
static NOINLINE void drop_with_own_links(void) {
  for (int i = 0; i < COUNT; i++) {
    void **object = GC_malloc(40);
    object[2] = object;
    CHECK_EQUAL(GC_register_disappearing_link(&object[2]), GC_SUCCESS);
    check_watch(i, object);
  }
}

static void test_own_links(void) {
  void **object = GC_malloc(40);
  object[2] = object;
  CHECK_EQUAL(GC_register_disappearing_link(&object[2]), GC_SUCCESS);
  drop_with_own_links();
  check_collect();
  CHECK(object[2] == object);
  CHECK(check_count_dead() > NEARLY_ALL);
}

/* ---- finalizers and links ---- */

static void *short_links[COUNT], *long_links[COUNT], *rescued[COUNT];
static int links_as_promised;

static void check_links_in_finalizer(void *object, void *argument) {
  GC_word i = (GC_word)argument;
  links_as_promised += short_links[i] == NULL && long_links[i] == (void *)GC_HIDE_POINTER(object);
  if (i % 2) rescued[i] = object;
}

static NOINLINE void drop_with_both(void) {
  for (GC_word i = 0; i < COUNT; i++) {
    void *object = GC_malloc(40);
    short_links[i] = long_links[i] = (void *)GC_HIDE_POINTER(object);
    CHECK_EQUAL(GC_general_register_disappearing_link(&short_links[i], object), GC_SUCCESS);
    CHECK_EQUAL(GC_register_long_link(&long_links[i], object), GC_SUCCESS);
    CHECK_EQUAL(GC_register_long_link(&long_links[i], object), GC_DUPLICATE);
    GC_register_finalizer(object, check_links_in_finalizer, (void *)i, NULL, NULL);
  }
}

/* Short links are cleared before finalizers run; long ones stay until the object is gone for good. */
static void test_long_links(void) {
  drop_with_both();
  check_collect();
  CHECK(links_as_promised > NEARLY_ALL);
  check_collect();
  int rescued_kept = 0, dropped_gone = 0, rescued_count = 0;
  for (int i = 0; i < COUNT; i++) {
    rescued_count += rescued[i] != NULL;
    if (rescued[i]) rescued_kept += long_links[i] == (void *)GC_HIDE_POINTER(rescued[i]);
    if (i % 2 == 0) dropped_gone += long_links[i] == NULL;
  }
  CHECK_EQUAL(rescued_kept, rescued_count);
  CHECK(dropped_gone > NEARLY_ALL / 2);
  for (int i = 0; i < COUNT; i++) {
    int registered = long_links[i] != NULL;
    CHECK_EQUAL(GC_unregister_long_link(&long_links[i]), registered);
    rescued[i] = NULL;
  }
}

/* ---- moving ---- */

typedef int mover(void **from, void **to);
typedef int linker(void **link, const void *object);
typedef int unlinker(void **link);

static void test_move_results(linker *add, mover *move, unlinker *take) {
  static void *a, *b, *c;
  void *object = GC_malloc(40), *other = GC_malloc(40);
  CHECK_EQUAL(move(&a, &b), GC_NOT_FOUND);
  CHECK_EQUAL(move(&a, &a), GC_NOT_FOUND);
  CHECK_EQUAL(add(&a, object), GC_SUCCESS);
  CHECK_EQUAL(move(&a, &a), GC_SUCCESS);
  CHECK_EQUAL(add(&c, other), GC_SUCCESS);
  CHECK_EQUAL(move(&a, &c), GC_DUPLICATE);
  CHECK_EQUAL(move(&a, &b), GC_SUCCESS);
  CHECK_EQUAL(move(&a, &b), GC_NOT_FOUND);
  CHECK_EQUAL(take(&a), 0);
  CHECK_EQUAL(take(&b), 1);
  CHECK_EQUAL(take(&c), 1);
  GC_reachable_here(object);
  GC_reachable_here(other);
}

static void *moved_links[COUNT];

static NOINLINE void watch_moved(void) {
  for (int i = 0; i < COUNT; i++) {
    check_watch(i, GC_malloc(40));
    CHECK_EQUAL(GC_move_disappearing_link(&check_links[i], &moved_links[i]), GC_SUCCESS);
    CHECK(moved_links[i] == (void *)(GC_word) ~(GC_word)0); /* the words are the caller's business */
    moved_links[i] = check_links[i];
  }
}

/* The new place is cleared, the old one is left alone. */
static void test_move(void) {
  memset(moved_links, 0xff, sizeof(moved_links));
  watch_moved();
  check_collect();
  int cleared = 0;
  for (int i = 0; i < COUNT; i++) {
    CHECK(check_links[i] != NULL);
    cleared += moved_links[i] == NULL;
  }
  CHECK(cleared > NEARLY_ALL);
  check_count_dead();
}

/* Weak tables that grow: links move again and again while objects die. */
static NOINLINE void churn_round(void ***table, void **held, int size) {
  void **next = GC_malloc_atomic(COUNT * sizeof(void *));
  for (int i = 0; i < size; i++) {
    next[i] = (*table)[i];
    int result = GC_move_disappearing_link(&(*table)[i], &next[i]);
    CHECK(result == (next[i] ? GC_SUCCESS : GC_NOT_FOUND));
  }
  next[size] = held[size] = GC_malloc(32);
  CHECK_EQUAL(GC_general_register_disappearing_link(&next[size], next[size]), GC_SUCCESS);
  *table = next;
}

static void test_move_churn(void) {
  void **table = GC_malloc_atomic(COUNT * sizeof(void *)), **held = GC_malloc(COUNT * sizeof(void *));
  for (int size = 0; size < COUNT; size++) {
    churn_round(&table, held, size);
    if (size % 20 == 19) {
      for (int i = size / 2; i < size; i += 3) held[i] = NULL;
      check_collect();
    }
  }
  int wrong = 0;
  for (int i = 0; i < COUNT; i++) wrong += held[i] && table[i] != held[i];
  CHECK_EQUAL(wrong, 0);
  GC_reachable_here(held);
}

/* ---- toggle references ---- */

static GC_ToggleRefStatus toggle_status;
static int toggle_calls;

static GC_ToggleRefStatus toggle(void *object) {
  CHECK(object != NULL);
  toggle_calls++;
  return toggle_status;
}

static NOINLINE void add_toggle_references(void) {
  for (int i = 0; i < COUNT; i++) {
    void *object = GC_malloc(40);
    check_watch(i, object);
    CHECK_EQUAL(GC_toggleref_add(object, 1), GC_SUCCESS);
  }
}

static void test_toggle_references(void) {
  GC_set_toggleref_func(toggle);
  CHECK(GC_get_toggleref_func() == toggle);
  toggle_status = GC_TOGGLE_REF_STRONG;
  add_toggle_references();
  check_collect();
  CHECK(toggle_calls >= COUNT);
  for (int i = 0; i < COUNT; i++) CHECK(check_links[i] != NULL);
  toggle_status = GC_TOGGLE_REF_WEAK;
  check_collect();
  CHECK(check_count_dead() > NEARLY_ALL);
  toggle_status = GC_TOGGLE_REF_DROP;
  add_toggle_references();
  check_collect();
  toggle_calls = 0;
  check_collect();
  CHECK_EQUAL(toggle_calls, 0);
  GC_set_toggleref_func(NULL);
}

int main(void) {
  GC_INIT();
  test_results();
  test_clearing();
  test_duplicate_follows();
  test_links_in_heap();
  test_own_links();
  test_long_links();
  test_move_results(GC_general_register_disappearing_link, GC_move_disappearing_link, GC_unregister_disappearing_link);
  test_move_results(GC_register_long_link, GC_move_long_link, GC_unregister_long_link);
  test_move();
  test_move_churn();
  test_toggle_references();
  return 0;
}
