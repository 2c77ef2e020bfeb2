# SPDX-License-Identifier: MIT
# What 'cmake --install' installs, and the Debian package ('cpack -G DEB' in the build folder).
include(GNUInstallDirs)
set(deploy ${PROJECT_SOURCE_DIR}/scripts/deploy)
set(generated ${CMAKE_BINARY_DIR}/deploy)
file(MAKE_DIRECTORY ${generated})
set(CMAKE_SKIP_INSTALL_ALL_DEPENDENCY ON)  # what is installed is built by 'ninja laggard laggard_deploy'; tests are not

target_link_options(laggard PRIVATE LINKER:-z,relro,-z,now)
install(TARGETS laggard RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(FILES ${PROJECT_SOURCE_DIR}/userspace/output/laggard.schema.json DESTINATION ${CMAKE_INSTALL_DATADIR}/laggard)
install(DIRECTORY ${deploy}/ DESTINATION ${CMAKE_INSTALL_DATADIR}/laggard
        REGEX "${deploy}/(man|systemd|debian|container)$" EXCLUDE PATTERN *.cmake EXCLUDE)  # the image is built of the sources
install(SCRIPT ${deploy}/install_system_files.cmake)
file(READ ${PROJECT_SOURCE_DIR}/LICENSE license)
file(WRITE ${generated}/copyright "${license}\nOn Debian the text of the GPL, version 2, is in /usr/share/common-licenses/GPL-2.\n")
install(FILES ${generated}/copyright DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/laggard)

# ---- from laggard's own options: completions, and the options' part of the man page ----
# laggard_generate(<output> <command> <installed to>): laggard itself is run, so not where it is built for another machine.
if(CMAKE_CROSSCOMPILING AND NOT CMAKE_CROSSCOMPILING_EMULATOR)
  message(STATUS "cross-compiling without an emulator: no completions and no man page")
else()
  set(files)
  foreach(shell_and_file IN ITEMS "bash:laggard:bash-completion/completions" "zsh:_laggard:zsh/vendor-completions"
          "fish:laggard.fish:fish/vendor_completions.d")
    string(REPLACE ":" ";" parts ${shell_and_file})
    list(GET parts 0 shell)
    list(GET parts 1 file)
    list(GET parts 2 folder)
    file(MAKE_DIRECTORY ${generated}/${shell})
    set(output ${generated}/${shell}/${file})
    add_custom_command(OUTPUT ${output} COMMAND laggard completions ${shell} > ${output} DEPENDS laggard VERBATIM)
    install(FILES ${output} DESTINATION ${CMAKE_INSTALL_DATADIR}/${folder})
    list(APPEND files ${output})
  endforeach()
  find_program(LAGGARD_SCDOC scdoc)
  if(LAGGARD_SCDOC)
    add_custom_command(OUTPUT ${generated}/laggard.1.gz
      COMMAND laggard completions scdoc > ${generated}/options.scd
      COMMAND sed -e "/^@OPTIONS@/{r ${generated}/options.scd" -e "d}" ${deploy}/man/laggard.1.scd > ${generated}/laggard.1.scd
      COMMAND ${LAGGARD_SCDOC} < ${generated}/laggard.1.scd > ${generated}/laggard.1
      COMMAND gzip -9nkf ${generated}/laggard.1
      DEPENDS laggard ${deploy}/man/laggard.1.scd VERBATIM)
    install(FILES ${generated}/laggard.1.gz DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
    list(APPEND files ${generated}/laggard.1.gz)
  else()
    message(STATUS "scdoc is missing: no man page. On Debian or Ubuntu: apt install scdoc")
  endif()
  add_custom_target(laggard_deploy ALL DEPENDS ${files})
endif()

# ---- the Debian package ----
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME laggard)
set(LAGGARD_PACKAGE_CONTACT "the laggard authors <laggard@localhost.localdomain>" CACHE STRING "Who made the package, with an address")
set(CPACK_PACKAGE_CONTACT ${LAGGARD_PACKAGE_CONTACT})
set(CPACK_PACKAGE_DIRECTORY ${CMAKE_BINARY_DIR}/package)
set(CPACK_STRIP_FILES ON)
set(CPACK_SET_DESTDIR ON)  # /etc is not below the prefix
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "names the connections whose consumers fall behind or never close")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION "laggard watches every TCP and UDP socket of a host with BPF, and says which
program reads too slowly, has stopped reading, never closes or leaks
connections, with the numbers that decided and what to do next.

It can be run by hand, or as the systemd service laggard, which is installed
but not started.")
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${deploy}/debian/conffiles ${deploy}/debian/postinst ${deploy}/debian/prerm
    ${deploy}/debian/postrm)
string(TIMESTAMP date "%a, %d %b %Y %H:%M:%S +0000" UTC)
file(CONFIGURE OUTPUT ${generated}/changelog CONTENT "laggard (${PROJECT_VERSION}) unstable; urgency=medium

  * See CHANGELOG.md of the project.

 -- ${CPACK_PACKAGE_CONTACT}  ${date}
")
execute_process(COMMAND gzip -9nkf ${generated}/changelog COMMAND_ERROR_IS_FATAL ANY)
install(FILES ${generated}/changelog.gz DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/laggard)
include(CPack)
