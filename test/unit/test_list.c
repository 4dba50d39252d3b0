/* list: both ends, removal anywhere, and links that know their list. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/list.h"

struct item {
  int number;
  struct link link;
};

/* Checks the numbers on the list, the links in both directions and the count. */
static void assert_numbers(const struct list *list, const int *numbers, size_t count) {
  assert_int_equal(list->count, count);
  assert_int_equal(list_is_empty(list), count == 0);
  const struct link *before = NULL;
  const struct link *link = list->first;
  for (size_t i = 0; i < count; i++) {
    assert_non_null(link);
    assert_ptr_equal(link->prev, before);
    assert_ptr_equal(link->list, list);
    assert_int_equal(CONTAINER_OF(link, const struct item, link)->number, numbers[i]);
    before = link;
    link = link->next;
  }
  assert_null(link);
  assert_ptr_equal(list->last, before);
}

static void test_push_at_both_ends(void **state) {
  (void)state;
  struct list list = {0};
  struct item items[4] = {{.number = 0}, {.number = 1}, {.number = 2}, {.number = 3}};
  assert_numbers(&list, NULL, 0);
  list_push_back(&list, &items[1].link);
  list_push_back(&list, &items[2].link);
  list_push_front(&list, &items[0].link);
  list_push_back(&list, &items[3].link);
  assert_numbers(&list, (int[]){0, 1, 2, 3}, 4);
}

static void test_remove_anywhere(void **state) {
  (void)state;
  for (int removed = 0; removed < 3; removed++) {
    struct list list = {0};
    struct item items[3] = {{.number = 0}, {.number = 1}, {.number = 2}};
    for (int i = 0; i < 3; i++) list_push_back(&list, &items[i].link);
    list_remove(&list, &items[removed].link);
    assert_null(items[removed].link.list);
    assert_numbers(&list, (int[]){removed == 0 ? 1 : 0, removed == 2 ? 1 : 2}, 2);
    list_push_front(&list, &items[removed].link);
    assert_int_equal(list.count, 3);
    assert_ptr_equal(list.first, &items[removed].link);
  }
}

static void test_pop_until_empty(void **state) {
  (void)state;
  struct list list = {0};
  struct item items[2] = {{.number = 0}, {.number = 1}};
  list_push_front(&list, &items[1].link);
  list_push_front(&list, &items[0].link);
  assert_ptr_equal(list_pop_front(&list), &items[0].link);
  assert_ptr_equal(list_pop_front(&list), &items[1].link);
  assert_null(list_pop_front(&list));
  assert_numbers(&list, NULL, 0);
}

/* ---- misuse, in a child ---- */

static void push_twice(void) {
  struct list list = {0};
  struct item item = {0};
  list_push_back(&list, &item.link);
  list_push_back(&list, &item.link);
}

static void remove_from_wrong_list(void) {
  struct list right = {0};
  struct list wrong = {0};
  struct item item = {0};
  list_push_back(&right, &item.link);
  list_remove(&wrong, &item.link);
}

static void remove_twice(void) {
  struct list list = {0};
  struct item item = {0};
  list_push_front(&list, &item.link);
  list_remove(&list, &item.link);
  list_remove(&list, &item.link);
}

static void test_misuse_aborts(void **state) {
  (void)state;
  void (*const misuses[])(void) = {push_twice, remove_from_wrong_list, remove_twice};
  for (size_t i = 0; i < COUNT_OF(misuses); i++) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
      signal(SIGABRT, SIG_DFL);
      close(STDERR_FILENO);
      misuses[i]();
      _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_push_at_both_ends),
      cmocka_unit_test(test_remove_anywhere),
      cmocka_unit_test(test_pop_until_empty),
      cmocka_unit_test(test_misuse_aborts),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
