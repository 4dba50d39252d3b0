/* The part of cmocka's interface that the tests use, for machines where cmocka is not installed: another processor's, for
 * instance, whose libraries a cross compiler lacks.
 *
 * A failed assertion ends the program at once with status 1; cmocka itself would go on with the next test. */
#ifndef TEST_SUPPORT_CMOCKA_H
#define TEST_SUPPORT_CMOCKA_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
  const char *name;
  void (*test)(void **state);
  int (*setup)(void **state);
};

#define fail_msg(...)                                       \
  do {                                                      \
    fprintf(stderr, "%s:%d: failed: ", __FILE__, __LINE__); \
    fprintf(stderr, __VA_ARGS__);                           \
    fprintf(stderr, "\n");                                  \
    exit(1);                                                \
  } while (0)

#define print_message(...) printf(__VA_ARGS__)

/* Only in a test function itself. */
#define skip()              \
  do {                      \
    printf("  left out\n"); \
    return;                 \
  } while (0)

#define assert_true(condition)                    \
  do {                                            \
    if (!(condition)) fail_msg("%s", #condition); \
  } while (0)
#define assert_false(condition) assert_true(!(condition))
#define assert_null(pointer) assert_true((pointer) == NULL)
#define assert_non_null(pointer) assert_true((pointer) != NULL)

/* As in cmocka, the arguments are integers of any type, and are compared as unsigned ones. */
#define assert_int_equal(a, b)                                                                             \
  do {                                                                                                     \
    unsigned long long cmocka_a = (unsigned long long)(a), cmocka_b = (unsigned long long)(b);             \
    if (cmocka_a != cmocka_b) fail_msg("%s is %#llx, not %s, which is %#llx", #a, cmocka_a, #b, cmocka_b); \
  } while (0)
#define assert_in_range(value, low, high)                                              \
  do {                                                                                 \
    unsigned long long cmocka_value = (unsigned long long)(value), cmocka_low = (low); \
    if (cmocka_value < cmocka_low || cmocka_value > (unsigned long long)(high))        \
      fail_msg("%s is %#llx, not in [%s, %s]", #value, cmocka_value, #low, #high);     \
  } while (0)
#define assert_int_not_equal(a, b) assert_true((unsigned long long)(a) != (unsigned long long)(b))
#define assert_ptr_equal(a, b) assert_int_equal((uintptr_t)(a), (uintptr_t)(b))
#define assert_ptr_not_equal(a, b) assert_true((uintptr_t)(a) != (uintptr_t)(b))
#define assert_string_equal(a, b)                                                  \
  do {                                                                             \
    if (strcmp((a), (b)) != 0) fail_msg("%s is \"%s\", not \"%s\"", #a, (a), (b)); \
  } while (0)

#define assert_memory_equal(a, b, bytes)                                                            \
  do {                                                                                              \
    if (memcmp((a), (b), (bytes)) != 0) fail_msg("%s and %s differ in %zu bytes", #a, #b, (bytes)); \
  } while (0)

#define cmocka_unit_test(function) \
  { #function, function, NULL }
#define cmocka_unit_test_setup(function, setup) \
  { #function, function, setup }

static inline int cmocka_run(const struct CMUnitTest *tests, size_t count, int (*before)(void **state),
                             int (*after)(void **state)) {
  void *state = NULL;
  if (before != NULL && before(&state) != 0) return 1;
  for (size_t i = 0; i < count; i++) {
    printf("[ RUN      ] %s\n", tests[i].name);
    fflush(stdout);
    if (tests[i].setup != NULL && tests[i].setup(&state) != 0) return 1;
    tests[i].test(&state);
    printf("[       OK ] %s\n", tests[i].name);
  }
  return after != NULL && after(&state) != 0 ? 1 : 0;
}

#define cmocka_run_group_tests(tests, before, after) \
  cmocka_run(tests, sizeof(tests) / sizeof((tests)[0]), before, after)
#define cmocka_run_group_tests_name(name, tests, before, after) \
  (printf("%s\n", (name)), cmocka_run_group_tests(tests, before, after))

#endif
