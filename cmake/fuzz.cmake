# The fuzz targets: each fuzz/fuzz_NAME.c is a program fuzz_NAME.
#
# As a rule it is linked to fuzz/standalone.c and runs as the test fuzz/NAME on a few random inputs.  With MIDDEN_FUZZ (the
# preset `fuzz`, which needs clang) it is linked to libFuzzer instead, for tools/fuzz.sh.
#
# fuzz/differential is one program, which runs on the drop-in and on the stock libgc.so.1, with fixed seeds as the tests
# fuzz/differential and, the drop-in's modes among themselves, fuzz/differential_modes.

option(MIDDEN_FUZZ "Fuzz targets by libFuzzer" OFF)
if(MIDDEN_FUZZ)
  target_compile_options(midden_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

# Random inputs for a test: some seconds each.
set(FUZZ_INPUTS_heap 1000)
set(FUZZ_INPUTS_pageheap 3000)
set(FUZZ_INPUTS_options 10000)

add_custom_target(fuzzers)
file(GLOB FUZZ_SOURCES CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/fuzz/fuzz_*.c")
foreach(source IN LISTS FUZZ_SOURCES)
  get_filename_component(target "${source}" NAME_WE)
  string(REGEX REPLACE "^fuzz_" "" name "${target}")
  add_executable(${target} EXCLUDE_FROM_ALL "${source}")
  set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY fuzz)
  target_link_libraries(${target} PRIVATE midden_static midden_flags)
  if(NOT name STREQUAL "heap")
    target_include_directories(${target} PRIVATE src)
  endif()
  add_dependencies(fuzzers ${target})
  if(MIDDEN_FUZZ)
    target_link_options(${target} PRIVATE -fsanitize=fuzzer)
  else()
    target_sources(${target} PRIVATE "${PROJECT_SOURCE_DIR}/fuzz/standalone.c")
    add_dependencies(tests ${target})
    set(inputs ${FUZZ_INPUTS_${name}})
    if(MIDDEN_SANITIZE)
      math(EXPR inputs "${inputs} / 5")
    endif()
    add_test(NAME fuzz/${name} COMMAND ${target} --random ${inputs} WORKING_DIRECTORY "${PROJECT_BINARY_DIR}/fuzz")
    midden_test_properties(fuzz/${name} fuzz)
  endif()
endforeach()

# ---- the drop-in beside the stock library ----

if(TARGET libgc AND NOT MIDDEN_FUZZ AND NOT CMAKE_CROSSCOMPILING)
  file(GLOB DIFFERENTIAL_SOURCES CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/fuzz/differential/*.c")
  add_executable(differential EXCLUDE_FROM_ALL ${DIFFERENTIAL_SOURCES})
  set_target_properties(differential PROPERTIES RUNTIME_OUTPUT_DIRECTORY fuzz SKIP_BUILD_RPATH ON)
  target_link_libraries(differential PRIVATE libgc midden_flags ${CMAKE_DL_LIBS})
  add_dependencies(tests differential)
  find_library(STOCK_LIBGC NAMES libgc.so.1)
  set(stock missing)
  if(STOCK_LIBGC)
    set(stock "${STOCK_LIBGC}")
  endif()
  set(compare bash "${PROJECT_SOURCE_DIR}/fuzz/differential/compare.sh" "$<TARGET_FILE:differential>"
    "$<TARGET_FILE_DIR:libgc>")
  if(NOT MIDDEN_SANITIZE)
    add_test(NAME fuzz/differential COMMAND ${compare} ${stock} 200 1 2 3 4 5
      WORKING_DIRECTORY "${PROJECT_BINARY_DIR}/fuzz")
    midden_test_properties(fuzz/differential fuzz)
  endif()
  add_test(NAME fuzz/differential_modes COMMAND ${compare} none 100 7 8
    WORKING_DIRECTORY "${PROJECT_BINARY_DIR}/fuzz")
  midden_test_properties(fuzz/differential_modes fuzz)
endif()
