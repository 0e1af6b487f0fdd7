#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Says who it is, where it is and what it was given. */
int main(int argc, char **argv) {
    const char *greeting = getenv("GREETING");
    const char *note = getenv("NOTE");
    char directory[4096], line[256];

    printf("%s, %s (version %s)\n", greeting ? greeting : "hello", argc > 1 ? argv[1] : "nobody", VERSION);
    printf("uid %d gid %d in %s\n", (int)getuid(), (int)getgid(), getcwd(directory, sizeof directory));
    FILE *file = note ? fopen(note, "r") : NULL;
    if (file == NULL) {
        return 1;
    }
    if (fgets(line, sizeof line, file) != NULL) {
        fputs(line, stdout);
    }
    fclose(file);
    return 0;
}
