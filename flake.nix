# For those who build with Nix; nothing here needs NixOS.
#
# There is no flake.lock: it would have to be made by `nix flake lock` on a machine that can fetch nixpkgs, and the tests
# can only parse this file (`nix-instantiate --parse`). Make one before relying on it: without it, nixpkgs moves.
{
  description = "Reproducible, content-addressed deployments for droplets: one digest is the whole machine";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forEachSystem = make: lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});

      # What the build looks at, so that a word in README.md rebuilds nothing.
      source = lib.fileset.toSource {
        root = ./.;
        fileset = lib.fileset.unions [
          ./Cargo.toml
          ./Cargo.lock
          ./clippy.toml
          ./rustfmt.toml
          ./src
          ./tests
          ./profiles
          ./cloud-init
        ];
      };

      bundle =
        pkgs:
        pkgs.rustPlatform.buildRustPackage {
          pname = "bundle";
          version = (lib.importTOML ./Cargo.toml).package.version;
          src = source;
          cargoLock.lockFile = ./Cargo.lock;
          # The tests beside the sources. Those of `tests/` boot a droplet and need root: `tests/run` is theirs.
          cargoTestFlags = [ "--lib" ];
          nativeCheckInputs = [
            pkgs.gzip
            pkgs.skopeo
          ];
          meta = {
            description = "Reproducible, content-addressed deployments for droplets";
            license = lib.licenses.asl20;
            mainProgram = "bundle";
            platforms = lib.platforms.linux;
          };
        };
    in
    {
      packages = forEachSystem (pkgs: {
        default = bundle pkgs;
      });

      devShells = forEachSystem (pkgs: {
        default = pkgs.mkShell {
          packages = [
            pkgs.cargo
            pkgs.cargo-deny
            pkgs.cargo-insta
            pkgs.clippy
            pkgs.rust-analyzer
            pkgs.rustc
            pkgs.rustfmt
            pkgs.skopeo
          ];
        };
      });

      checks = forEachSystem (pkgs: {
        package = bundle pkgs;

        formatting = pkgs.runCommand "bundle-formatting" { nativeBuildInputs = [ pkgs.cargo pkgs.rustfmt ]; } ''
          cd ${source}
          cargo fmt --check
          touch $out
        '';

        # Every shipped profile builds, and twice to the same digest.
        profiles = pkgs.runCommand "bundle-profiles" { nativeBuildInputs = [ (bundle pkgs) ]; } ''
          cd ${source}
          for profile in development staging production; do
            bundle --root "$TMPDIR" build --check "$profile" >>$out
          done
        '';
      });

      formatter = forEachSystem (pkgs: pkgs.nixfmt-rfc-style);
    };
}
