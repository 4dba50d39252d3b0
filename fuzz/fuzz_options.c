/* The parser of the environment, with any values, against one that is written straight from the table's words.
 *
 * An input names variables and their values; a third of all values is assembled from words and numbers that mean
 * something.  For each variable alone: exactly one warning, which names it, if the value is bad, and then the outcome is
 * as if it were not set; for all together: each field is what its variable alone makes of it. */
#include "fuzz.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "api/options.h"
#include "midden/options.h"
#include "os/os.h"

enum { TEXT_BYTES = 96, MESSAGE_BYTES = 8192 };

extern void __sanitizer_set_report_fd(void *file) __attribute__((weak));
extern char **environ;

/* ---- the variables ---- */

struct variable {
  const char *name;
  size_t offset, bytes; /* of the field */
  enum { SIZE, COUNT, PERCENT, SWITCH, WORDS, PATH } type;
  long low, high;
};

#define VARIABLE(field, variable, type, low, high, standard, help) \
  {variable, offsetof(struct midden_options, field), sizeof(((struct midden_options *)0)->field), type, low, high},
static const struct variable variables[] = {MIDDEN_OPTIONS(VARIABLE)};
#undef VARIABLE

enum { VARIABLES = sizeof(variables) / sizeof(variables[0]) };

static char texts[VARIABLES][TEXT_BYTES]; /* NAME=value; empty: not set */

static const char *value_of(size_t i) { return texts[i] + strlen(variables[i].name) + 1; }

/* ---- running the parser ---- */

static int real_stderr, captured;

static void start_once(void) {
  static bool started;
  if (started) return;
  started = true;
  os_init();
  real_stderr = dup(STDERR_FILENO);
  FILE *file = tmpfile();
  captured = file != NULL ? dup(fileno(file)) : -1;
  FUZZ_REQUIRE(real_stderr >= 0 && captured >= 0, "no files: %d", errno);
  if (__sanitizer_set_report_fd != NULL) __sanitizer_set_report_fd((void *)(intptr_t)real_stderr);
}

/* Warnings go to `message`; returns how many there were. */
static size_t resolve(struct midden_options *options, const struct midden_options *given, bool *refused,
                      char message[MESSAGE_BYTES]) {
  FUZZ_REQUIRE(ftruncate(captured, 0) == 0 && lseek(captured, 0, SEEK_SET) == 0, "capture: %d", errno);
  dup2(captured, STDERR_FILENO);
  int error = options_resolve(options, given);
  dup2(real_stderr, STDERR_FILENO);
  FUZZ_REQUIRE(error == 0 || error == -EINVAL, "the error is %d", error);
  *refused = error != 0;
  ssize_t got = pread(captured, message, MESSAGE_BYTES - 1, 0);
  FUZZ_REQUIRE(got >= 0, "capture: %d", errno);
  message[got] = '\0';
  size_t count = 0;
  for (const char *at = message; (at = strstr(at, " is not understood")) != NULL; at++) count++;
  return count;
}

static void set_environment(size_t only) {
  static char *environment[VARIABLES + 1];
  size_t count = 0;
  for (size_t i = 0; i < VARIABLES; i++) {
    if (texts[i][0] != '\0' && (only == VARIABLES || only == i)) environment[count++] = texts[i];
  }
  environment[count] = NULL;
  environ = environment;
}

/* ---- what is right ---- */

static bool reference_size(const char *text, size_t *bytes) {
  unsigned __int128 value = 0;
  size_t length = strspn(text, "0123456789");
  if (length == 0) return false;
  for (size_t i = 0; i < length; i++) {
    value = value * 10 + (unsigned)(text[i] - '0');
    if (value > SIZE_MAX) return false;
  }
  static const char suffixes[] = "KkMmGgTt";
  const char *suffix = text[length] != '\0' ? strchr(suffixes, text[length]) : NULL;
  if (text[length] != '\0' && (suffix == NULL || text[length + 1] != '\0')) return false;
  if (suffix != NULL) value <<= 10 * ((suffix - suffixes) / 2 + 1);
  if (value > SIZE_MAX) return false;
  *bytes = (size_t)value;
  return true;
}

/* A whole number, as strtol reads it: blanks and a sign may come first. */
static bool reference_count(const char *text, long low, long high) {
  text += strspn(text, " \t\n\v\f\r");
  bool negative = *text == '-';
  if (*text == '-' || *text == '+') text++;
  if (*text == '\0' || text[strspn(text, "0123456789")] != '\0') return false;
  __int128 value = 0;
  for (; *text != '\0' && value <= LONG_MAX; text++) value = value * 10 + (*text - '0');
  if (negative) value = -value;
  return value >= low && value <= high;
}

static bool is_one_of(const char *word, const char *const words[], size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (strcasecmp(word, words[i]) == 0) return true;
  }
  return false;
}

static bool reference_word(const char *name, const char *word) {
  static const char *const modes[] = {"auto", "stw", "barrier", "dirty"}, *const choices[] = {"auto", "off", "always"};
  if (strcmp(name, "MIDDEN_MODE") == 0) return is_one_of(word, modes, sizeof(modes) / sizeof(modes[0]));
  if (strcmp(name, "MIDDEN_GENERATIONS") == 0) return is_one_of(word, choices, sizeof(choices) / sizeof(choices[0]));
  if (strcasecmp(word, "none") == 0 || strcmp(word, "0") == 0) return true;
  bool is_file = strncasecmp(word, "file:", 5) == 0 && strlen(word) > 5 && strlen(word) < 5 + 1024;
  if (strcmp(name, "MIDDEN_TRACE") == 0 && is_file) return true;
  if (strcmp(name, "MIDDEN_TRACE") == 0) return strcasecmp(word, "gc") == 0 || strcmp(word, "1") == 0;
  if (strncasecmp(word, "stress:", 7) == 0) return strlen(word + 7) < 16 && reference_count(word + 7, 1, INT_MAX);
  static const char *const words[] = {"verify", "poison", "stress", "redzone", "notools", "check"};
  return is_one_of(word, words, sizeof(words) / sizeof(words[0]));
}

static bool reference_words(const char *name, const char *text) {
  char copy[TEXT_BYTES], *rest = copy, *word;
  snprintf(copy, sizeof(copy), "%s", text);
  while ((word = strsep(&rest, ",")) != NULL) {
    if (!reference_word(name, word)) return false;
  }
  return true;
}

/* Nobody handles the first two, the C library keeps the next two to itself, and the others are for faults. */
static bool reference_signal(const char *text) {
  static const int bad[] = {SIGKILL, SIGSTOP, 32, 33, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    if (bad[i] == atoi(text)) return false;
  }
  return true;
}

static bool is_good(const struct variable *variable, const char *text) {
  size_t bytes;
  if (*text == '\0') return true; /* as if not set */
  switch (variable->type) {
    case SIZE:
      return strcasecmp(text, "off") == 0 || reference_size(text, &bytes);
    case PERCENT:
      return strcasecmp(text, "off") == 0 || reference_count(text, variable->low, variable->high);
    case COUNT:
      if (strcmp(variable->name, "MIDDEN_SUSPEND_SIGNAL") == 0 && !reference_signal(text)) return false;
      return reference_count(text, variable->low, variable->high);
    case SWITCH:
      return reference_count(text, variable->low, variable->high);
    case PATH:
      return strlen(text) < 1024;
    default:
      return reference_words(variable->name, text);
  }
}

static bool same_field(size_t i, const struct midden_options *left, const struct midden_options *right) {
  return memcmp((const char *)left + variables[i].offset, (const char *)right + variables[i].offset,
                variables[i].bytes) == 0;
}

static bool is_floor(size_t i) {
  return variables[i].offset == offsetof(struct midden_options, min_heap_bytes) ||
         variables[i].offset == offsetof(struct midden_options, initial_heap_bytes);
}

/* The value of a size.  0 stands for the default, which is no floor's where it is off. */
static void check_size(size_t i, const struct midden_options *options) {
  size_t bytes = 0, field;
  if (variables[i].type != SIZE || *value_of(i) == '\0') return;
  if (strcasecmp(value_of(i), "off") != 0) reference_size(value_of(i), &bytes);
  if (bytes == 0 && is_floor(i)) bytes = 1;
  memcpy(&field, (const char *)options + variables[i].offset, sizeof field);
  FUZZ_REQUIRE(bytes == 0 || field == bytes, "%s is %zu", texts[i], field);
}

/* What follows from other fields: the first heap from the smallest, the interval from the word. */
static bool follows(size_t i) { return variables[i].offset == offsetof(struct midden_options, initial_heap_bytes); }

/* ---- one input ---- */

static void choose_text(struct fuzz_input *input, char *text, size_t capacity) {
  static const char *const parts[] = {"off",
                                      "auto",
                                      "stw",
                                      "verify",
                                      "poison",
                                      "redzone",
                                      "notools",
                                      "stress",
                                      "stress:",
                                      "gc",
                                      "none",
                                      ",",
                                      "K",
                                      "m",
                                      "G",
                                      "t",
                                      "0",
                                      "1",
                                      "-1",
                                      "9",
                                      "19",
                                      "32",
                                      "64",
                                      "65",
                                      "100000",
                                      "+",
                                      " ",
                                      "9223372036854775807",
                                      "18446744073709551615",
                                      "16777215",
                                      "OFF"};
  uint8_t how = fuzz_byte(input);
  size_t length = 0, count = how >> 2 & 15;
  for (size_t i = 0; i < count; i++) {
    if (how & 1) {
      const char *part = parts[fuzz_byte(input) % (sizeof(parts) / sizeof(parts[0]))];
      size_t bytes = strlen(part);
      if (length + bytes >= capacity) break;
      memcpy(text + length, part, bytes);
      length += bytes;
    } else {
      uint8_t byte = fuzz_byte(input);
      if (byte != 0 && length + 1 < capacity) text[length++] = (char)byte;
    }
  }
  text[length] = '\0';
}

/* Options of the program, exactly as long as they say. */
static struct midden_options *choose_given(struct fuzz_input *input) {
  if (fuzz_byte(input) % 2 == 0) return NULL;
  struct midden_options options = {0};
  size_t sizes[] = {sizeof(options), sizeof(options), offsetof(struct midden_options, percent), sizeof(size_t)};
  options.size = sizes[fuzz_byte(input) % 4];
  options.mode = fuzz_byte(input) % 3;
  options.percent = (int)fuzz_number(input, 1) - 2;
  options.max_heap_bytes = fuzz_size(input, 63);
  options.min_heap_bytes = fuzz_size(input, 63);
  options.markers = fuzz_byte(input) % 70;
  options.suspend_signal = fuzz_byte(input) % 70 - 1;
  options.debug = fuzz_byte(input) % 9;
  options.trace = fuzz_byte(input) % 2;
  options.generations = fuzz_byte(input) % 3;
  struct midden_options *given = malloc(options.size);
  FUZZ_REQUIRE(given != NULL, "no memory");
  memcpy(given, &options, options.size);
  return given;
}

static bool is_sensible(const struct midden_options *options) {
  return options->size != 0 && options->mode <= MIDDEN_MODE_BARRIER && options->percent >= -1 &&
         options->percent != 0 && options->memory_limit_bytes != 0 && options->max_heap_bytes != 0 &&
         options->min_heap_bytes != 0 && options->initial_heap_bytes != 0 && options->markers >= 1 &&
         options->markers <= 64 && options->suspend_signal >= 0 && options->suspend_signal <= 64 &&
         options->stress_interval > 0 && options->debug < 64 && (options->background == 1 || options->background == -1);
}

static void check_sizes(void) {
  for (size_t i = 0; i < VARIABLES; i++) {
    if (texts[i][0] == '\0') continue;
    size_t bytes = 1, expected = 1;
    bool parsed = options_parse_size(value_of(i), &bytes), right = reference_size(value_of(i), &expected);
    FUZZ_REQUIRE(parsed == right && bytes == expected, "'%s' is read as %zu, not %zu", value_of(i), bytes, expected);
  }
}

/* A variable wins over the field: what the program asks for does not count.  MODE may leave it to the program. */
static void check_wins(size_t i, const struct midden_options *alone) {
  struct midden_options bare;
  char message[MESSAGE_BYTES];
  bool refused;
  if (*value_of(i) == '\0' || variables[i].offset == offsetof(struct midden_options, mode)) return;
  resolve(&bare, NULL, &refused, message);
  FUZZ_REQUIRE(same_field(i, alone, &bare), "%s does not win over the field", texts[i]);
}

static void check_alone(size_t i, const struct midden_options *given, const struct midden_options *unset,
                        const struct midden_options *together, size_t *warnings) {
  struct midden_options alone;
  char message[MESSAGE_BYTES];
  bool refused;
  set_environment(i);
  size_t count = resolve(&alone, given, &refused, message);
  bool good = is_good(&variables[i], value_of(i));
  FUZZ_REQUIRE(count == !good, "%s: %zu warnings: %s", texts[i], count, message);
  FUZZ_REQUIRE(good || strstr(message, variables[i].name) != NULL, "%s is not named in: %s", texts[i], message);
  for (size_t k = 0; k < VARIABLES; k++) {
    if ((good && k == i) || follows(k)) continue;
    FUZZ_REQUIRE(same_field(k, &alone, unset), "%s changes the field of %s", texts[i], variables[k].name);
  }
  if (good) check_size(i, &alone);
  if (good) check_wins(i, &alone);
  FUZZ_REQUIRE(follows(i) || same_field(i, &alone, together), "%s means something else among others", texts[i]);
  *warnings += count;
}

static void check(const struct midden_options *given) {
  struct midden_options unset, together;
  char message[MESSAGE_BYTES];
  bool refused;
  environ = (char *[]){NULL};
  size_t warnings = 0, count = resolve(&unset, given, &refused, message);
  FUZZ_REQUIRE(count == 0, "warnings without variables: %s", message);
  if (refused) {
    FUZZ_REQUIRE(given != NULL, "the defaults are refused");
    return;
  }
  set_environment(VARIABLES);
  count = resolve(&together, given, &refused, message);
  FUZZ_REQUIRE(!refused && is_sensible(&together) && is_sensible(&unset), "an option is out of range");
  for (size_t i = 0; i < VARIABLES; i++) {
    if (texts[i][0] != '\0') check_alone(i, given, &unset, &together, &warnings);
  }
  FUZZ_REQUIRE(count == warnings, "%zu warnings together, %zu one by one", count, warnings);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  struct fuzz_input input = {data, data + bytes};
  char **environment = environ;
  start_once();
  memset(texts, 0, sizeof(texts));
  struct midden_options *given = choose_given(&input);
  for (unsigned i = 0; i < VARIABLES && !fuzz_is_empty(&input); i++) {
    size_t chosen = fuzz_byte(&input) % VARIABLES;
    int length = snprintf(texts[chosen], TEXT_BYTES, "%s=", variables[chosen].name);
    choose_text(&input, texts[chosen] + length, TEXT_BYTES - (size_t)length);
  }
  check_sizes();
  check(given);
  environ = environment;
  free(given);
  return 0;
}
