# Packs installed gems and their dependencies into vendor/cache, from which Bundler installs them:
#
#   pack_gems.rb GEM... (in the application's directory)

require "fileutils"
require "rubygems/package"
require "set"
require "tmpdir"

def pack(name, packed)
  spec = Gem::Specification.find_by_name(name)
  return if spec.default_gem? || !packed.add?(name)
  spec.runtime_dependencies.each { |needed| pack(needed.name, packed) }
  to = File.expand_path("vendor/cache/#{spec.full_name}.gem")
  Dir.mktmpdir do |folder|
    FileUtils.cp_r(Dir["#{spec.full_gem_path}/*"], folder, dereference_root: true)
    # Include the compiled extensions of the system.
    FileUtils.cp_r(Dir["#{spec.extension_dir}/*"], "#{folder}/lib") unless spec.extensions.empty?
    spec = spec.dup
    spec.extensions = spec.extra_rdoc_files = spec.test_files = []
    Dir.chdir(folder) do
      spec.files = Dir["**/*"].select { |path| File.file?(path) && !File.symlink?(path) }
      spec.executables = spec.executables.select { |file| File.exist?(File.join(spec.bindir, file)) }
      Gem::Package.build(spec, true, false, to)
    end
  end
end

FileUtils.mkdir_p("vendor/cache")
packed = Set.new
ARGV.each { |name| pack(name, packed) }
