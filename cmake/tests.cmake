# The tests, each a program or a script that ctest runs.  Exit status 77 means "skipped".
#
#   test/unit/test_*.c, test/model/test_*.c, test/fault/*.c   white box: they see the headers of src/
#   test/stress/*.c and *.cc, test/compat/*.c                 public headers only
#   test/compat/gc_*.c     written against gc/gc.h: run on our libgc.so.1 and, if installed, on the stock one too;
#                          gc_midden_*.c run on ours alone
#   test/compat/clients/   programs of the system that use libgc, on the stock library and on ours, plain and stressed
#   test/unit/dl_NAME.c    a library for dlopen; unit tests find its path in the macro DL_NAME_PATH
#   test/checkers/         a program that misuses objects, under each memory checker
#   test/cli/*.sh          the `midden` command, with the program of probe.c
#   test/cli/unload.c      the shared libraries as a plugin's, which is opened and closed
#   test/support/*.c       linked to every test
#
# Tests that keep to the rule of midden/barrier.h run once more, as NAME.barrier, with MIDDEN_MODE=barrier; and most of
# stress and model, and some units, as NAME.dirty, with MIDDEN_MODE=dirty.
#
# A file is one test, named FOLDER/NAME without the "test_".  One whose name ends in _heavy has the label "heavy" and is
# left out of sanitizer runs.  The programs are built by the target "tests".

find_path(CMOCKA_INCLUDE_DIR cmocka.h)
find_library(CMOCKA_LIBRARY cmocka)
if(NOT CMOCKA_INCLUDE_DIR OR NOT CMOCKA_LIBRARY)
  message(STATUS "cmocka is not installed: the tests use a stand-in")
  set(CMOCKA_INCLUDE_DIR "${PROJECT_SOURCE_DIR}/test/support/cmocka")
  set(CMOCKA_LIBRARY "")
endif()
add_custom_target(tests)
add_dependencies(tests make_size_classes make_options_doc midden_static midden_shared)

# Leak detection stays off: it looks for references from roots and malloc's memory, and would report what only an object of
# the heap refers to.  So does the fake stack, where the collector would not find the locals that it holds.
# docs/sanitizers.md tells more.
set(SANITIZER_ENVIRONMENT
  "ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0:allocator_may_return_null=1"
  "UBSAN_OPTIONS=print_stacktrace=1" "TSAN_OPTIONS=halt_on_error=1:die_after_fork=0")

function(midden_test_properties name label)
  set(labels ${label})
  set(timeout 120)
  if(name MATCHES "_heavy(\\.|$)")
    list(APPEND labels heavy)
    set(timeout 600)
  endif()
  if(MIDDEN_SANITIZE)
    math(EXPR timeout "${timeout} * 3")
  endif()
  if(CMAKE_CROSSCOMPILING) # under an emulator
    math(EXPR timeout "${timeout} * 5")
  endif()
  set_tests_properties("${name}" PROPERTIES LABELS "${labels}" TIMEOUT ${timeout} SKIP_RETURN_CODE 77
    ENVIRONMENT "${SANITIZER_ENVIRONMENT};${ARGN}")
endfunction()

# Before the command of a test of dirty-page mode: skips where the system cannot tell what was written.
set(WHERE_WRITES_ARE_TOLD sh -c "\"$0\" available && exec \"$@\"" "$<TARGET_FILE:test_stress_dirty>")

# ---- checks of the tree itself ----

function(midden_rig_test name)
  add_test(NAME rig/${name} COMMAND ${ARGN} WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}")
  midden_test_properties(rig/${name} rig)
endfunction()

# The same for every build: `make check` runs what has the label "source" in one of them.
function(midden_source_test name)
  midden_rig_test(${name} ${ARGN})
  set_property(TEST rig/${name} APPEND PROPERTY LABELS source)
endfunction()

midden_source_test(layers sh tools/check_layers.sh)
midden_source_test(layers_self_test sh tools/check_layers.sh --self-test)
midden_source_test(format sh tools/check_format.sh)
midden_source_test(size_class_table make_size_classes --check src/span/size_class_table.h)
midden_source_test(options_markdown make_options_doc --check markdown docs/options.md)
midden_source_test(options_man make_options_doc --check man man/midden_options.7)
midden_source_test(docs sh tools/check_docs.sh)
midden_rig_test(exports_midden sh tools/check_exports.sh midden "$<TARGET_FILE:midden_shared>")
if(TARGET libgc)
  add_dependencies(tests libgc)
  midden_rig_test(exports_libgc sh tools/check_exports.sh libgc "$<TARGET_FILE:libgc>")
endif()

# ---- the command line ----

# A program linked to libgc.so.1 that knows no folder of it, and one that carries the folder of another.
if(TARGET libgc AND TARGET midden)
  foreach(target cli_probe cli_probe_pinned)
    add_executable(${target} EXCLUDE_FROM_ALL test/cli/probe.c)
    set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY test/cli SKIP_BUILD_RPATH ON)
    target_link_libraries(${target} PRIVATE libgc midden_flags ${CMAKE_DL_LIBS})
    add_dependencies(tests ${target})
  endforeach()
  set(other_folder "${PROJECT_BINARY_DIR}/test/cli/other")
  target_link_options(cli_probe_pinned PRIVATE "LINKER:--disable-new-dtags,-rpath,${other_folder}")
  add_custom_command(TARGET cli_probe_pinned POST_BUILD
    COMMAND ${CMAKE_COMMAND} -E make_directory "${other_folder}"
    COMMAND ${CMAKE_COMMAND} -E copy "$<TARGET_FILE:libgc>" "${other_folder}/libgc.so.1")
  add_test(NAME cli/run COMMAND sh "${PROJECT_SOURCE_DIR}/test/cli/run.sh" "$<TARGET_FILE:midden>"
    "$<TARGET_FILE:libgc>" "$<TARGET_FILE:cli_probe>" "$<TARGET_FILE:cli_probe_pinned>")
  set(plain_compiler "${CMAKE_C_COMPILER}")
  if(MIDDEN_SANITIZE OR MIDDEN_COVERAGE)
    set(plain_compiler "")
  endif()
  add_test(NAME cli/install COMMAND sh "${PROJECT_SOURCE_DIR}/test/cli/install.sh" "${PROJECT_BINARY_DIR}"
    "${CMAKE_INSTALL_LIBDIR}" "$<TARGET_FILE:cli_probe>" ${plain_compiler})
  midden_test_properties(cli/run cli)
  midden_test_properties(cli/install cli)
endif()

# ---- libraries that are opened and closed ----

add_executable(cli_unload EXCLUDE_FROM_ALL test/cli/unload.c)
set_target_properties(cli_unload PROPERTIES RUNTIME_OUTPUT_DIRECTORY test/cli)
target_link_libraries(cli_unload PRIVATE midden_flags ${CMAKE_DL_LIBS})
add_dependencies(tests cli_unload)
add_test(NAME cli/unload_midden COMMAND cli_unload "$<TARGET_FILE:midden_shared>" midden_alloc midden_collect)
midden_test_properties(cli/unload_midden cli)
if(TARGET libgc)
  add_test(NAME cli/unload_libgc COMMAND cli_unload "$<TARGET_FILE:libgc>" GC_malloc GC_gcollect)
  midden_test_properties(cli/unload_libgc cli)
endif()

# ---- programs of the system ----

# They are not instrumented, so the runtime of the library's sanitizer has to be loaded first.  The thread sanitizer's does
# not support that.
if(TARGET libgc AND NOT CMAKE_CROSSCOMPILING AND NOT MIDDEN_SANITIZE MATCHES "thread")
  set(preload "")
  if(MIDDEN_SANITIZE MATCHES "address" AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
    execute_process(COMMAND ${CMAKE_C_COMPILER} -print-file-name=libasan.so OUTPUT_VARIABLE preload
      OUTPUT_STRIP_TRAILING_WHITESPACE)
  endif()
  file(GLOB CLIENTS CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/test/compat/clients/*.sh")
  list(FILTER CLIENTS EXCLUDE REGEX "/run\\.sh$")
  foreach(client IN LISTS CLIENTS)
    get_filename_component(name "${client}" NAME_WE)
    set(modes plain stress)
    if(name MATCHES "^(ecl|guile|guile_threads|neko)$") # quick; with callbacks, stacks, trace functions of their own
      list(APPEND modes dirty)
    endif()
    foreach(mode IN LISTS modes)
      set(launcher "")
      if(mode STREQUAL "dirty")
        set(launcher ${WHERE_WRITES_ARE_TOLD})
      endif()
      add_test(NAME clients/${name}.${mode} COMMAND ${launcher} sh
        "${PROJECT_SOURCE_DIR}/test/compat/clients/run.sh" ${name} "$<TARGET_FILE_DIR:libgc>" ${mode})
      midden_test_properties(clients/${name}.${mode} compat "SANITIZER_PRELOAD=${preload}")
    endforeach()
  endforeach()
endif()

# ---- memory checkers ----

# A program that misuses objects, instrumented or on Valgrind, with the library as it is shipped: not instrumented.
if(NOT MIDDEN_SANITIZE AND NOT MIDDEN_COVERAGE AND NOT CMAKE_CROSSCOMPILING)
  foreach(tool asan msan valgrind redzone)
    if(tool STREQUAL "valgrind" AND CMAKE_C_COMPILER_ID STREQUAL "Clang")
      continue() # Debian's Valgrind does not read all of clang's debugging information, and says so in its report
    endif()
    set(compiler "${CMAKE_C_COMPILER}")
    if(tool STREQUAL "msan")
      set(compiler clang) # gcc has none
    endif()
    add_test(NAME checkers/${tool} COMMAND sh "${PROJECT_SOURCE_DIR}/test/checkers/checkers.sh" ${tool} "${compiler}"
      "$<TARGET_FILE:midden_static>" "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}/test/checkers/probe.c")
    midden_test_properties(checkers/${tool} checkers)
  endforeach()
endif()

# ---- benchmarks that check counts, and one that shows that the bench itself works ----

add_dependencies(tests bench_pageheap)
add_test(NAME bench/pageheap COMMAND bench_pageheap --check)
midden_test_properties(bench/pageheap bench)
if(TARGET bench_driver)
  add_dependencies(tests bench_driver worker-midden worker-malloc)
  add_test(NAME bench/latency COMMAND bench_driver --repeat 1 --engines midden-stw,midden-barrier,control
    latency live=2M ms=100 collections=1 blocked=2 silent=2)
  midden_test_properties(bench/latency bench)
  add_test(NAME bench/stores COMMAND bench_driver --repeat 1 --engines midden-stw,midden-barrier,midden-dirty,control
    stores live=2M ms=100 collections=1)
  midden_test_properties(bench/stores bench)
endif()

# ---- examples ----

foreach(target IN LISTS EXAMPLE_TARGETS)
  string(REPLACE "example_" "" name "${target}")
  add_dependencies(tests ${target})
  add_test(NAME examples/${name} COMMAND ${target})
  midden_test_properties(examples/${name} examples)
endforeach()

# ---- test programs ----

file(GLOB TEST_SUPPORT CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/test/support/*.c")
if(TEST_SUPPORT)
  add_library(test_support STATIC EXCLUDE_FROM_ALL ${TEST_SUPPORT})
  target_include_directories(test_support PRIVATE include test "${CMOCKA_INCLUDE_DIR}")
  target_link_libraries(test_support PRIVATE midden_flags)
endif()

file(GLOB DL_SOURCES CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/test/unit/dl_*.c")
set(DL_TARGETS "")
set(DL_DEFINITIONS "")
foreach(source IN LISTS DL_SOURCES)
  get_filename_component(name "${source}" NAME_WE)
  add_library(${name} MODULE EXCLUDE_FROM_ALL "${source}")
  set_target_properties(${name} PROPERTIES PREFIX "" C_VISIBILITY_PRESET default
    LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/test/unit")
  target_link_libraries(${name} PRIVATE midden_flags)
  string(TOUPPER "${name}" upper)
  list(APPEND DL_TARGETS ${name})
  list(APPEND DL_DEFINITIONS "${upper}_PATH=\"$<TARGET_FILE:${name}>\"")
endforeach()

# A test program `target` of one source, which lies in test/FOLDER.
function(midden_test_program target folder source)
  get_filename_component(output "${source}" NAME_WE)
  add_executable(${target} EXCLUDE_FROM_ALL "${source}")
  set_target_properties(${target} PROPERTIES OUTPUT_NAME ${output} RUNTIME_OUTPUT_DIRECTORY test/${folder})
  target_include_directories(${target} PRIVATE test "${CMOCKA_INCLUDE_DIR}")
  if(TEST_SUPPORT)
    target_link_libraries(${target} PRIVATE test_support)
  endif()
  target_link_libraries(${target} PRIVATE "${CMOCKA_LIBRARY}" midden_flags ${CMAKE_DL_LIBS} m)
  add_dependencies(tests ${target})
endfunction()

function(midden_test_name variable folder source)
  get_filename_component(name "${source}" NAME_WE)
  string(REGEX REPLACE "^test_" "" name "${name}")
  set(${variable} "${folder}/${name}" PARENT_SCOPE)
endfunction()

foreach(folder unit model fault stress compat)
  if(folder MATCHES "unit|model")
    file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/test/${folder}/test_*.c")
  else()
    file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/test/${folder}/*.c")
  endif()
  list(FILTER sources EXCLUDE REGEX "/gc_[^/]*\\.c$")
  foreach(source IN LISTS sources)
    midden_test_name(name ${folder} "${source}")
    string(REPLACE "/" "_" target "test_${name}")
    midden_test_program(${target} ${folder} "${source}")
    target_link_libraries(${target} PRIVATE midden_static)
    if(folder MATCHES "unit|model|fault")
      target_include_directories(${target} PRIVATE src)
    endif()
    if(folder STREQUAL "unit" AND DL_TARGETS)
      target_compile_definitions(${target} PRIVATE ${DL_DEFINITIONS})
      add_dependencies(${target} ${DL_TARGETS})
    endif()
    add_test(NAME ${name} COMMAND ${target} WORKING_DIRECTORY "${PROJECT_BINARY_DIR}/test/${folder}")
    midden_test_properties(${name} ${folder})
  endforeach()
endforeach()

# Where test_start_loading.c has the start wait, and what it has a loaded object call.
target_link_options(test_unit_start_loading PRIVATE "LINKER:--wrap=os_init")
set_target_properties(test_unit_start_loading PROPERTIES ENABLE_EXPORTS ON)

# Where test_handshake.c says that the system has no such call.
target_link_options(test_unit_handshake PRIVATE "LINKER:--wrap=os_order_threads")

# Where test_ahead.c has the background thread wait.
target_link_options(test_unit_ahead PRIVATE "LINKER:--wrap=os_populate")

# What test_world.c does behind the release of the collector's lock, and where a thread goes on after a stop.
target_link_options(test_unit_world PRIVATE "LINKER:--wrap=collector_release,--wrap=world_wait_resumed")

# What test_disabled.c counts.
target_link_options(test_unit_disabled PRIVATE "LINKER:--wrap=driver_request")

# What test_barrier_modules.c does behind the learning of what is loaded.
target_link_options(test_unit_barrier_modules PRIVATE "LINKER:--wrap=roots_learn,--wrap=roots_visit_running")

# Where test/support/cycle_steps.h has the collector's thread wait.
foreach(name assist_pace barrier_attach barrier_batch barrier_cleanups barrier_given_up barrier_last_look barrier_locals
             barrier_minor barrier_overflow barrier_realloc barrier_resumer barrier_roots barrier_settling barrier_shortage
             barrier_values barrier_weak_read deferred dirty_beside dirty_black dirty_borders dirty_calls dirty_growth
             dirty_guarded dirty_left dirty_lost dirty_old dirty_specials dirty_stacks dirty_young fiber_account
             fork_blocking)
  target_link_options(test_unit_${name} PRIVATE "LINKER:--wrap=roots_learn,--wrap=roots_visit_running")
endforeach()

# Where test_dirty_young.c has it wait besides, and what it looks at.
target_link_options(test_unit_dirty_young PRIVATE "LINKER:--wrap=assist_drain,--wrap=mark_bits_clear_slots"
  "LINKER:--wrap=mutator_visit_storage,--wrap=concurrent_scan_threads_again"
  "LINKER:--wrap=mark_address,--wrap=slots_all_marked")

# What test_dirty_guarded.c does behind the marking of the heap, and before a new object is cleared.
target_link_options(test_unit_dirty_guarded PRIVATE "LINKER:--wrap=assist_drain,--wrap=guard_allocated")

# Where test_deferred_refused.c has no memory.
target_link_options(test_unit_deferred_refused PRIVATE "LINKER:--wrap=deferred_add")

# Before what test_dirty_begun_beyond.c looks.
target_link_options(test_unit_dirty_begun_beyond PRIVATE "LINKER:--wrap=assist_drain")

# Where test_dirty_calls.c has it wait besides, and the processor time that stands still in it.
target_link_options(test_unit_dirty_calls PRIVATE "LINKER:--wrap=assist_drain,--wrap=os_thread_cpu_ns")

# What test_dirty_stacks.c and test_barrier_roots.c look at besides, and what test_barrier_resumer.c does as a fiber begins.
target_link_options(test_unit_dirty_stacks PRIVATE "LINKER:--wrap=mark_range")
target_link_options(test_unit_barrier_roots PRIVATE "LINKER:--wrap=mark_range")
target_link_options(test_unit_barrier_resumer PRIVATE "LINKER:--wrap=os_context_arrive")

# Where test_calls.c comes in between, and what it looks at.
target_link_options(test_unit_calls PRIVATE "LINKER:--wrap=lock_pass,--wrap=midden_barrier_record")

# What test_moved_walks.c sees of critical sections.
target_link_options(test_unit_moved_walks PRIVATE "LINKER:--wrap=mutator_enter_slow")

# Where test_barrier_cleanups.c has it wait besides.
target_link_options(test_unit_barrier_cleanups PRIVATE "LINKER:--wrap=cycle_drain_alone")

# Where test_barrier_last_look.c has it wait besides.
target_link_options(test_unit_barrier_last_look PRIVATE "LINKER:--wrap=mutator_close_gate")

# Where test_barrier_settling.c has it wait besides.
target_link_options(test_unit_barrier_settling PRIVATE "LINKER:--wrap=settle_dead_running")

# What test_barrier_shortage.c does behind the collection of a thread that wants memory.
target_link_options(test_unit_barrier_shortage PRIVATE "LINKER:--wrap=sweep_finish")

# What test_barrier_overflow.c and test_weak_links.c have fail.
target_link_options(test_unit_barrier_overflow PRIVATE "LINKER:--wrap=fixalloc_alloc")
target_link_options(test_unit_weak_links PRIVATE "LINKER:--wrap=fixalloc_alloc")

# What test_barrier_given_up.c has fail, and where it forks.
target_link_options(test_unit_barrier_given_up PRIVATE "LINKER:--wrap=rootset_mark_running,--wrap=assist_drain")

# What test_barrier_races.c does behind the marking of the roots, and between a handshake and a large object that is made.
target_link_options(test_unit_barrier_races PRIVATE
  "LINKER:--wrap=roots_visit_running,--wrap=handshake_run,--wrap=large_alloc")

# What test_barrier_driver.c has refused.
target_link_options(test_unit_barrier_driver PRIVATE "LINKER:--wrap=mutator_attach_own")

# What test_stop_signals.c does around the reading of the roots, and before a thread starts or is signalled; and what it counts.
target_link_options(test_unit_stop_signals PRIVATE "LINKER:--wrap=rootset_mark_share,--wrap=os_start_thread"
  "LINKER:--wrap=os_signal_thread,--wrap=warn")

# Where test_dirty_beside.c, test_dirty_borders.c, test_dirty_old.c and test_dirty_black.c have it wait besides.
target_link_options(test_unit_dirty_beside PRIVATE "LINKER:--wrap=rounds_run")
target_link_options(test_unit_dirty_borders PRIVATE "LINKER:--wrap=rounds_run")
target_link_options(test_unit_dirty_old PRIVATE "LINKER:--wrap=rounds_run")
target_link_options(test_unit_dirty_black PRIVATE "LINKER:--wrap=collector_stop_world")

# What test_dirty_specials.c counts, and where it acts.
target_link_options(test_unit_dirty_specials PRIVATE "LINKER:--wrap=calls_mark_roots,--wrap=special_filter"
  "LINKER:--wrap=rounds_run")

# Where test_dirty_left.c has the stop left, what it counts, and where it acts.
target_link_options(test_unit_dirty_left PRIVATE "LINKER:--wrap=settle_takes_long,--wrap=settle_find_finalizers_stw"
  "LINKER:--wrap=settle_find_finalizers_running,--wrap=special_filter")

# What test_cache.c and test_special.c have refused, and where the former looks.
target_link_options(test_unit_cache PRIVATE "LINKER:--wrap=persist_alloc,--wrap=mark_bits_set_slots")
target_link_options(test_unit_special PRIVATE "LINKER:--wrap=persist_alloc")

# What test_dirty_allow.c looks at.
target_link_options(test_unit_dirty_allow PRIVATE "LINKER:--wrap=os_dirty_allow,--wrap=os_dirty_write_ns")

# The price that test_dirty_faults.c plays.
target_link_options(test_unit_dirty_faults PRIVATE "LINKER:--wrap=os_dirty_write_ns")

# What test_dirty_split.c looks at.
target_link_options(test_unit_dirty_split PRIVATE "LINKER:--wrap=os_dirty_scan")

# What other threads take in test_impossible.c.
target_link_options(test_unit_impossible PRIVATE "LINKER:--wrap=pageheap_read_stats")

# What test_dirty_protect.c and test_dirty_lost.c are refused.
target_link_options(test_unit_dirty_protect PRIVATE "LINKER:--wrap=os_dirty_scan")
target_link_options(test_unit_dirty_lost PRIVATE "LINKER:--wrap=os_dirty_scan,--wrap=rounds_run")

# With what a round begins, for test_dirty_pace.c.
target_link_options(test_unit_dirty_pace PRIVATE "LINKER:--wrap=roots_visit_written_running")

# The kernel that test_page_size.c plays.
target_link_options(test_unit_page_size PRIVATE "LINKER:--wrap=os_page_bytes,--wrap=os_commit,--wrap=os_release"
  "LINKER:--wrap=os_guard,--wrap=os_unguard")

# The huge pages that test_arena.c plays.
target_link_options(test_unit_arena PRIVATE "LINKER:--wrap=os_huge_page_bytes")

# The kernel that test_os_dirty_old.c stands for.
target_link_options(test_unit_os_dirty_old PRIVATE "LINKER:--wrap=uname,--wrap=ioctl")

# What test_dirty_static.c does around the reading of static data.
target_link_options(test_unit_dirty_static PRIVATE "LINKER:--wrap=roots_visit_running,--wrap=ranges_add")

# What test_dirty.c does before the written pages are reported; test_dirty_missing.c runs its program.
target_link_options(test_stress_dirty PRIVATE
  "LINKER:--wrap=written_visit,--wrap=written_visit_outside,--wrap=os_dirty_join")

# Where the library leaves a stop before all is settled: test_dirty_finalizers.c makes it do so, and lingers.
target_link_options(test_stress_dirty_finalizers PRIVATE
  "LINKER:--wrap=settle_takes_long,--wrap=settle_find_finalizers_stw"
  "LINKER:--wrap=settle_end_stw,--wrap=settle_end_running")

target_compile_definitions(test_unit_trace PRIVATE TRACE_DOCUMENT="${PROJECT_SOURCE_DIR}/docs/trace.md")

# ---- the same in barrier mode ----

# Left out are tests that switch stacks behind the collector's back (stress/coroutines), white box tests of the other mode's
# parts, and those that expect the other mode's figures of memory (stress/limit, stress/spike).
foreach(name stress/threads stress/fibers stress/free stress/many stress/settling stress/stats stress/finalizer_growth
        model/graph model/finalizers model/fibers model/arrays model/specials model/weak_tables)
  string(REPLACE "/" "_" target "test_${name}")
  get_filename_component(folder ${name} DIRECTORY)
  set(arguments "")
  if(name STREQUAL "stress/threads")
    # All scenarios but the storm: its signal handler stores pointers, and no handler may use the barrier.
    set(arguments exchange collectors churn blocking local jump fork libraries world locked)
  endif()
  add_test(NAME ${name}.barrier COMMAND ${target} ${arguments}
    WORKING_DIRECTORY "${PROJECT_BINARY_DIR}/test/${folder}")
  midden_test_properties(${name}.barrier ${folder} "MIDDEN_MODE=barrier")
endforeach()

# ---- the same in dirty-page mode ----

# Left out are tests that expect another mode's figures (model/stats, stress/limit, stress/spike) or lines of the trace, and
# those of barrier mode's own parts.  No emulator tells what was written.
if(NOT CMAKE_CROSSCOMPILING)
  set(CHECKED stress/threads stress/fibers stress/many stress/coroutines stress/clearing stress/settling model/specials)
  foreach(name ${CHECKED} stress/barrier stress/barrier_handover stress/barrier_weak stress/barrier_fibers stress/free
          stress/stats stress/finalizer_growth model/graph model/finalizers model/fibers model/sweep model/arrays
          model/weak_tables unit/fiber unit/api_arguments unit/guard unit/handshake unit/profile unit/background unit/trace_file fault/os_failures)
    if(MIDDEN_SANITIZE AND name MATCHES "^(stress/threads|stress/coroutines|model/graph)$")
      continue() # half a minute each
    endif()
    string(REPLACE "/" "_" target "test_${name}")
    get_filename_component(folder ${name} DIRECTORY)
    set(environment "MIDDEN_MODE=dirty" "MIDDEN_BRIEF_STOP=off")
    if(name IN_LIST CHECKED)
      list(APPEND environment "MIDDEN_DEBUG=check")
    endif()
    if(name STREQUAL "stress/coroutines")
      list(APPEND environment "MIDDEN_TEST_STEPS=2000")
    elseif(name MATCHES "/barrier")
      list(APPEND environment "MIDDEN_TEST_EXPECT_CONCURRENT=0") # which is told by the barrier
    endif()
    add_test(NAME ${name}.dirty COMMAND ${WHERE_WRITES_ARE_TOLD} "$<TARGET_FILE:${target}>"
      WORKING_DIRECTORY "${PROJECT_BINARY_DIR}/test/${folder}")
    midden_test_properties(${name}.dirty ${folder} "${environment}")
  endforeach()
endif()

# ---- what runs under the thread sanitizer ----

# Barrier mode, with fewer steps: the label and the target "tsan".  docs/sanitizers.md says why not more.
if(MIDDEN_SANITIZE MATCHES "thread")
  add_custom_target(tsan)
  foreach(name unit/lock unit/barrier_races unit/work stress/barrier stress/barrier_handover stress/barrier_weak stress/barrier_fibers
          stress/many.barrier stress/stats.barrier)
    string(REGEX REPLACE "\\.barrier$" "" program "${name}")
    string(REPLACE "/" "_" target "test_${program}")
    add_dependencies(tsan ${target})
    set_property(TEST ${name} APPEND PROPERTY LABELS tsan)
    set_property(TEST ${name} APPEND PROPERTY ENVIRONMENT "MIDDEN_TEST_STEPS=2000")
  endforeach()
endif()

# ---- a program in C++, where there is a compiler for it ----

# A sanitizer's runtime belongs to its compiler.
if(NOT CMAKE_CROSSCOMPILING AND (NOT MIDDEN_SANITIZE OR CMAKE_C_COMPILER_ID STREQUAL "GNU"))
  include(CheckLanguage)
  check_language(CXX)
endif()
if(CMAKE_CXX_COMPILER)
  enable_language(CXX)
  midden_test_program(test_stress_fiber_exceptions stress "${PROJECT_SOURCE_DIR}/test/stress/fiber_exceptions.cc")
  set_target_properties(test_stress_fiber_exceptions PROPERTIES CXX_STANDARD 17)
  target_link_libraries(test_stress_fiber_exceptions PRIVATE midden_static)
  add_test(NAME stress/fiber_exceptions COMMAND test_stress_fiber_exceptions)
  midden_test_properties(stress/fiber_exceptions stress)
endif()

# ---- protocols, checked by spin in every order of their steps ----

foreach(model sweepgen span_state written barrier minor)
  add_test(NAME model/spin_${model} COMMAND bash "${PROJECT_SOURCE_DIR}/tools/models.sh" --short ${model})
  midden_test_properties(model/spin_${model} spin)
  set_property(TEST model/spin_${model} APPEND PROPERTY LABELS source)
  # One takes minutes on some machines: it is started first.
  set_tests_properties(model/spin_${model} PROPERTIES TIMEOUT 600 COST 1000)
endforeach()

# ---- programs written against the Boehm collector's headers ----

file(GLOB GC_SOURCES CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/test/compat/gc_*.c")
if(GC_SOURCES AND TARGET libgc)
  find_library(STOCK_LIBGC NAMES libgc.so.1)
  foreach(source IN LISTS GC_SOURCES)
    midden_test_name(name compat "${source}")
    string(REPLACE "/" "_" target "test_${name}")
    midden_test_program(${target} compat "${source}")
    target_link_libraries(${target} PRIVATE libgc)
    add_test(NAME ${name} COMMAND ${target} WORKING_DIRECTORY "${PROJECT_BINARY_DIR}/test/compat")
    midden_test_properties(${name} compat "MIDDEN_BRIEF_STOP=off") # small heaps

    # What passes on ours and fails on the stock library tests something else than the interface.
    if(STOCK_LIBGC AND NOT MIDDEN_SANITIZE AND NOT name MATCHES "/gc_midden_")
      midden_test_program(${target}_stock compat "${source}")
      set_target_properties(${target}_stock PROPERTIES RUNTIME_OUTPUT_DIRECTORY test/compat/stock)
      target_include_directories(${target}_stock PRIVATE shim/libgc/include)
      target_link_libraries(${target}_stock PRIVATE "${STOCK_LIBGC}")
      # The stock library keeps more by mistake than the tests allow for, now and then: three tries.
      add_test(NAME ${name}.stock COMMAND sh -c "$0 || $0 || $0" $<TARGET_FILE:${target}_stock>
        WORKING_DIRECTORY "${PROJECT_BINARY_DIR}/test/compat")
      midden_test_properties(${name}.stock compat)
      set_property(TEST ${name}.stock APPEND PROPERTY LABELS source)
    endif()
  endforeach()

  # Marks where all of the marking is one stop.
  add_test(NAME compat/gc_collections.stw COMMAND test_compat_gc_collections
    WORKING_DIRECTORY "${PROJECT_BINARY_DIR}/test/compat")
  midden_test_properties(compat/gc_collections.stw compat "MIDDEN_MODE=stw")

  # A thread that collects on a stack in the heap: what the collector's own frames hold there was not missed.
  add_test(NAME compat/gc_coroutines.check COMMAND test_compat_gc_coroutines
    WORKING_DIRECTORY "${PROJECT_BINARY_DIR}/test/compat")
  midden_test_properties(compat/gc_coroutines.check compat "MIDDEN_BRIEF_STOP=off;MIDDEN_DEBUG=check")
endif()
