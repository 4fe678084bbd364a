// Copyright: the lumen.airgap maintainers
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// trivydb writes a small vulnerability database and a small Java database as Trivy reads them: a cache directory with
// db/ and java-db/. What is in them comes from content.json, or from the file that -content names. The advisories
// are invented, and have identifiers that no real one has.
package main

import (
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/aquasecurity/trivy-db/pkg/db"
	"github.com/aquasecurity/trivy-db/pkg/metadata"
	"github.com/aquasecurity/trivy-db/pkg/types"
	javadb "github.com/aquasecurity/trivy-java-db/pkg/db"
	javatypes "github.com/aquasecurity/trivy-java-db/pkg/types"
	"go.etcd.io/bbolt"
	_ "modernc.org/sqlite"
)

//go:embed content.json
var builtIn []byte

type advisory struct {
	ID, Bucket, Source, Package, Severity, Title string
	// Of packages of a distribution: the version that mends it, empty when none does.
	Fixed string
	// Of packages of a language.
	Vulnerable, Patched []string
}

type jar struct {
	SHA1, Group, Artifact, Version string
}

type content struct {
	Advisories []advisory
	Jars       []jar
}

func main() {
	var cache, file, updated string
	var schema, javaSchema int
	flag.StringVar(&cache, "cache", "", "directory that db/ and java-db/ are made in")
	flag.StringVar(&file, "content", "", "JSON file with what goes into the databases, instead of what is built in")
	flag.StringVar(&updated, "updated", "", "RFC 3339 time at which they say that they were made, instead of now")
	flag.IntVar(&schema, "schema", db.SchemaVersion, "schema that the database says it has")
	flag.IntVar(&javaSchema, "java-schema", javadb.SchemaVersion, "schema that the Java database says it has")
	flag.Parse()
	if err := run(cache, file, updated, schema, javaSchema); err != nil {
		fmt.Fprintln(os.Stderr, "trivydb:", err)
		os.Exit(1)
	}
}

func run(cache, file, updated string, schema, javaSchema int) error {
	if cache == "" {
		return fmt.Errorf("-cache is missing")
	}
	at := time.Now().UTC()
	if updated != "" {
		parsed, err := time.Parse(time.RFC3339, updated)
		if err != nil {
			return err
		}
		at = parsed.UTC()
	}
	text := builtIn
	if file != "" {
		read, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		text = read
	}
	var what content
	if err := json.Unmarshal(text, &what); err != nil {
		return fmt.Errorf("content: %w", err)
	}
	if err := writeVulnerabilities(filepath.Join(cache, "db"), what.Advisories, schema, at); err != nil {
		return err
	}
	return writeJars(filepath.Join(cache, "java-db"), what.Jars, javaSchema, at)
}

// writeVulnerabilities fills the buckets that Trivy asks: the advisories of a distribution or language by package, and
// the details by identifier.
func writeVulnerabilities(dir string, advisories []advisory, schema int, at time.Time) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := db.Init(dir); err != nil {
		return err
	}
	config := db.Config{}
	err := config.BatchUpdate(func(tx *bbolt.Tx) error {
		for _, item := range advisories {
			if err := put(config, tx, item); err != nil {
				return fmt.Errorf("%s: %w", item.ID, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	return metadata.NewClient(dir).Update(metadata.Metadata{
		Version: schema, UpdatedAt: at, NextUpdate: at.Add(24 * time.Hour),
	})
}

func put(config db.Config, tx *bbolt.Tx, item advisory) error {
	severity, err := types.NewSeverity(item.Severity)
	if err != nil {
		return err
	}
	source := types.SourceID(item.Source)
	if err := config.PutDataSource(tx, item.Bucket, types.DataSource{ID: source, Name: "the lab"}); err != nil {
		return err
	}
	entry := types.Advisory{
		FixedVersion: item.Fixed, VulnerableVersions: item.Vulnerable, PatchedVersions: item.Patched,
	}
	if err := config.PutAdvisory(tx, []string{item.Bucket, item.Package}, item.ID, &entry); err != nil {
		return err
	}
	return config.PutVulnerability(tx, item.ID, types.Vulnerability{
		Title: item.Title, Severity: item.Severity,
		VendorSeverity: types.VendorSeverity{source: severity},
	})
}

func writeJars(dir string, jars []jar, schema int, at time.Time) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	client, err := javadb.New(dir)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.Init(); err != nil {
		return err
	}
	var rows []javatypes.Index
	for _, item := range jars {
		sum, err := hex.DecodeString(item.SHA1)
		if err != nil {
			return fmt.Errorf("%s: %w", item.Artifact, err)
		}
		rows = append(rows, javatypes.Index{
			GroupID: item.Group, ArtifactID: item.Artifact, Version: item.Version, SHA1: sum,
			ArchiveType: javatypes.JarType,
		})
	}
	if err := client.InsertIndexes(rows); err != nil {
		return err
	}
	about := javadb.NewMetadata(dir)
	return about.Update(javadb.Metadata{Version: schema, UpdatedAt: at, NextUpdate: at.Add(72 * time.Hour)})
}
