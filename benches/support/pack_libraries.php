<?php
// Creates a Composer project that requires every PHP library in a directory, such as Debian's /usr/share/php,
// from archives that this script creates in the current directory:
//
//   php pack_libraries.php DIRECTORY (in the project's directory)

[, $from] = $argv;
$packages = $require = [];
mkdir('../libraries');
$archives = realpath('../libraries');
$libraries = [];
$files = new RecursiveIteratorIterator(new RecursiveDirectoryIterator($from, FilesystemIterator::SKIP_DOTS));
foreach ($files as $file) {
    // Debian puts this file into the directory of each library.
    if ($file->getFilename() === 'autoload.php') {
        $libraries[] = substr($file->getPath(), strlen($from) + 1);
    }
}
foreach ($libraries as $library) {
    $name = 'system/' . strtolower(str_replace('/', '-', $library));
    $archive = "$archives/" . basename($name) . '.tar';
    $words = ['tar', '-cf', $archive, '-C', dirname("$from/$library")];
    foreach ($libraries as $other) {
        if (str_starts_with($other, "$library/")) {
            $words[] = '--exclude=' . basename($library) . substr($other, strlen($library));
        }
    }
    $words[] = basename($library);
    exec(implode(' ', array_map('escapeshellarg', $words)), $lines, $status);
    $status === 0 || exit(1);
    $dist = ['type' => 'tar', 'url' => "file://$archive"];
    $autoload = ['classmap' => ['.'], 'exclude-from-classmap' => ['/Test/', '/Tests/']];
    $package = ['name' => $name, 'version' => '1.0.0', 'dist' => $dist, 'autoload' => $autoload];
    $packages[] = ['type' => 'package', 'package' => $package];
    $require[$name] = '1.0.0';
}
ksort($require);
$packages[] = ['packagist.org' => false];
file_put_contents('composer.json', json_encode(['repositories' => $packages, 'require' => $require], JSON_PRETTY_PRINT));
exit(count($require) > 0 ? 0 : 1);
